"""Where a run computes: one process or several, on a CPU or GPUs, through accelerate.

`torchrun` and `accelerate launch` start several processes; each sees its own `rank`. Everything
here is the same on one.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator, Sequence
from typing import Any

from xlmr.errors import MissingExtraError
from xlmr.training.recipe import Recipe


class Device:
    """The processors of a run.

    Raises:
        MissingExtraError: torch or accelerate is not installed.
    """

    def __init__(self) -> None:
        self._torch = import_extra("torch")
        self._accelerator = import_extra("accelerate").Accelerator(mixed_precision="no")
        self.rank: int = self._accelerator.process_index
        self.processes: int = self._accelerator.num_processes
        self.kind: str = self._accelerator.device.type

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def place(self, network: Any, recipe: Recipe) -> Any:
        """Freezes what shall not learn, adds low-rank updates where the recipe asks for them."""
        if not recipe.optimizer.train_embeddings:
            network.get_input_embeddings().requires_grad_(False)
        if recipe.method == "lora":
            from xlmr.training.lora import add_updates

            add_updates(network, recipe.lora)
        return network

    def prepare(self, network: Any, optimizer: Any) -> tuple[Any, Any]:
        """Moves both to the device, and wraps the network where several processes share it."""
        prepared = self._accelerator.prepare(network, optimizer)
        # The wrapper would skip steps and change rates; none of that is wanted here.
        return prepared[0], prepared[1].optimizer

    def unwrap(self, network: Any) -> Any:
        """The network itself."""
        return self._accelerator.unwrap_model(network)

    def backward(self, loss: Any, network: Any, *, last: bool) -> None:
        """Adds a loss's gradients; processes exchange theirs with the last one of a step."""
        quiet = contextlib.nullcontext() if last else self._accelerator.no_sync(network)
        with quiet:
            # Exchanged gradients are averaged over the processes; the loss is a share of a sum.
            (loss * self.processes).backward()

    def clip(self, named: Sequence[tuple[str, Any]], most: float) -> float:
        """Shortens the gradient; gives the norm it had."""
        return float(self._torch.nn.utils.clip_grad_norm_([p for _, p in named], most))

    def summed(self, value: float) -> float:
        """A number's sum over the processes."""
        if self.processes == 1:
            return value
        tensor = self._torch.tensor(
            value, dtype=self._torch.float64, device=self._accelerator.device
        )
        return float(self._accelerator.reduce(tensor, reduction="sum"))

    def gathered(self, found: list[Any]) -> list[Any]:
        """All processes' lists as one."""
        if self.processes == 1:
            return found
        from accelerate.utils import gather_object

        gathered: list[Any] = gather_object(found)
        return gathered

    def wait(self) -> None:
        """Until every process is here."""
        self._accelerator.wait_for_everyone()

    def autocast(self, precision: str) -> Any:
        """bfloat16 where asked, or where the device computes in it; elsewhere it is slower."""
        torch = self._torch
        if precision == "auto":
            fast = (
                torch.cuda.is_bf16_supported(including_emulation=False)
                if self.kind == "cuda"
                else self.kind == "cpu"
                and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
            )
            precision = "bf16" if fast else "fp32"
        return torch.autocast(self.kind, dtype=torch.bfloat16, enabled=precision == "bf16")

    @contextlib.contextmanager
    def inference(self, precision: str) -> Iterator[None]:
        """Without gradients, in the run's precision."""
        with self._torch.no_grad(), self.autocast(precision):
            yield

    @contextlib.contextmanager
    def seeded(self, *numbers: int) -> Iterator[None]:
        """Random numbers that depend on these alone, and one order of sums; both are put back."""
        torch = self._torch
        import numpy as np

        seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
        before = torch.are_deterministic_algorithms_enabled()
        devices = [self._accelerator.device] if self.kind == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            torch.use_deterministic_algorithms(True, warn_only=self.kind == "cuda")
            try:
                yield
            finally:
                torch.use_deterministic_algorithms(before)

    @contextlib.contextmanager
    def denormals_flushed(self) -> Iterator[None]:
        """Adam's state fills with denormals, on which a processor is 4 to 16 times slower.

        The mode is the thread's, and others in this process may count on denormals: it is put
        back. Torch's own threads inherit the mode of the one that starts them.
        """
        self._torch.set_flush_denormal(True)
        try:
            yield
        finally:
            self._torch.set_flush_denormal(False)


def describe_machine(device: Device) -> dict[str, Any]:
    """What a run computed on."""
    torch = import_extra("torch")
    found = {
        "system": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": device.kind,
        "processes": device.processes,
    }
    if device.kind == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
    return found


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether torch, or the system, had no memory to give."""
    words = str(fault)
    return isinstance(fault, MemoryError) or any(
        sign in words for sign in ("out of memory", "can't allocate memory", "not enough memory")
    )


def import_extra(name: str) -> Any:
    """A package of the `train` extra.

    Raises:
        MissingExtraError: it is not installed.
    """
    import importlib

    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as fault:
        if fault.name and fault.name.partition(".")[0] != name:
            raise
        raise MissingExtraError(name, extra="train") from None
    if name == "transformers":
        # Its bars and its notice about the new head's random weights say what a run knows.
        module.utils.logging.set_verbosity_error()
        module.utils.logging.disable_progress_bar()
    return module
