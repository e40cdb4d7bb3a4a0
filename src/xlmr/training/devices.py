"""Where a run computes: one process or several, on a CPU or GPUs, through accelerate.

`torchrun` and `accelerate launch` start several processes; each sees its own `rank`. Everything
here is the same on one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from xlmr.errors import MissingExtraError

# Numbers of a gradient that go over the wire together: 64 MB.
_EXCHANGED = 1 << 24


class Device:
    """The processors of a run.

    Raises:
        MissingExtraError: torch or accelerate is not installed.
    """

    def __init__(self) -> None:
        self._torch = import_extra("torch")
        accelerate = import_extra("accelerate")
        several = self._torch.distributed
        launched = several.is_torchelastic_launched() or several.is_initialized()
        # Without being told so, accelerate takes processes on CPUs for strangers.
        on_cpus = launched and not self._torch.cuda.is_available()
        self._accelerator = accelerate.Accelerator(cpu=on_cpus, mixed_precision="no")
        self.rank: int = self._accelerator.process_index
        self.processes: int = self._accelerator.num_processes
        self._device = self._accelerator.device
        self.kind: str = self._device.type

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def place(self, network: Any) -> Any:
        """Moves a network here."""
        return network.to(self._device)

    def exchange(self, named: Sequence[tuple[str, Any]]) -> None:
        """Sums the gradients of all processes, in place; each ends with the same bits.

        Once a step, after its last batch, and not through a wrapper around the network: an
        objective may then read a network as often and as deep as it likes, and processes need not
        have the same number of batches.
        """
        if self.processes == 1:
            return
        torch = self._torch
        own = torch.tensor([float(p.grad is not None) for _, p in named], device=self._device)
        present = self._accelerator.reduce(own, reduction="sum").tolist()
        used = [p for (_, p), count in zip(named, present, strict=True) if count]
        for parameter in used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for group in _grouped([parameter.grad for parameter in used]):
            flat = torch.cat([gradient.reshape(-1) for gradient in group])
            summed = self._accelerator.reduce(flat, reduction="sum")
            parts = summed.split([gradient.numel() for gradient in group])
            for gradient, part in zip(group, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

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

    def leave(self) -> None:
        """Ends what the processes share; nothing can be exchanged after it."""
        self._accelerator.end_training()

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
        # Nothing here reads memory it did not write; filling it first costs a twentieth of a step.
        filled = torch.utils.deterministic.fill_uninitialized_memory
        devices = [self._device] if self.kind == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            torch.use_deterministic_algorithms(True, warn_only=self.kind == "cuda")
            torch.utils.deterministic.fill_uninitialized_memory = False
            try:
                yield
            finally:
                torch.use_deterministic_algorithms(before)
                torch.utils.deterministic.fill_uninitialized_memory = filled

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


def _grouped(gradients: Sequence[Any]) -> Iterator[list[Any]]:
    """Gradients of one type and a bounded size in all, so that their copy stays small."""
    group: list[Any] = []
    size = 0
    for gradient in gradients:
        if group and (size + gradient.numel() > _EXCHANGED or gradient.dtype != group[0].dtype):
            yield group
            group, size = [], 0
        group.append(gradient)
        size += gradient.numel()
    if group:
        yield group


def describe_device(device: Device) -> dict[str, Any]:
    """What of a machine a run computed on, as torch sees it."""
    torch = import_extra("torch")
    found = {
        "vectors": torch.backends.cpu.get_cpu_capability(),
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


def import_extra(name: str, *, extra: str = "train") -> Any:
    """A package of an extra.

    Raises:
        MissingExtraError: it is not installed.
    """
    import importlib

    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as fault:
        if fault.name and fault.name.partition(".")[0] != name:
            raise
        raise MissingExtraError(name, extra=extra) from None
    if name == "transformers":
        # Its bars and its notice about the new head's random weights say what a run knows.
        module.utils.logging.set_verbosity_error()
        module.utils.logging.disable_progress_bar()
    return module
