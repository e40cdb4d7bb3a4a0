"""The encoder in torch behind the port: for GPUs, and for any other device torch knows.

Half precision on CUDA uses one variable-length attention kernel and captured graphs; everything
else, float32 on CUDA included, attends to texts of equal length together. The CUDA path has its
tests, which run where there is a GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from threading import Event, Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xlmr.errors import CancelledError, EngineError, SettingsError
from xlmr.model.bundle import EncoderFiles
from xlmr.model.config import EncoderConfig
from xlmr.model.runtime import check_batch
from xlmr.model.runtimes.torch_encoder import (
    Attend,
    Row,
    attend_in_groups,
    attend_in_one,
    forward,
    groups_of,
    kernel_works,
    lay_out,
    load,
    row_of,
)
from xlmr.model.runtimes.torch_graphs import Graphs
from xlmr.model.weights import Weights
from xlmr.types import Batch, Hidden, Rows

_FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchRuntime:
    """One encoder on one device. Safe to call from several threads; they take turns.

    An answer depends on its batch-mates by rounding alone: the matrix library may pick another
    kernel for another number of rows. In float32 on a CPU that is a few units in the last place.
    """

    def __init__(
        self,
        arrays: Mapping[str, NDArray[np.float32]],
        config: EncoderConfig,
        *,
        precision: str = "fp32",
        threads: int = 0,
        batch_tokens: int = 4096,
        device: str | None = None,
    ) -> None:
        """Puts weights on a device; see `open`.

        Args:
            arrays: the encoder's weights under the names of `xlmr.model.weights`.
            config: the architecture.
            precision: `fp32`, `bf16` or `fp16`.
            threads: sets torch's CPU threads, for the whole process; 0 leaves them as they are.
            batch_tokens: most tokens in one batch.
            device: `cpu`, `cuda`, `cuda:1`, ...; None takes CUDA where there is one.
        """
        if precision not in _FORMATS:
            raise SettingsError(
                f"the torch runtime does not compute {precision}",
                hint="set XLMR_PRECISION=bf16 or fp32, or use the native runtime for int8",
            )
        if threads > 0:
            torch.set_num_threads(threads)
        self._device = _usable_device(device)
        self._config = config
        self._max_batch_tokens = batch_tokens
        self._lock = Lock()
        self._closed = Event()
        dtype = _FORMATS[precision]
        with self._on_device():
            self._weights = load(arrays, config, self._device, dtype)
            in_one = kernel_works(self._device, dtype, config)
            self._attend: Attend = attend_in_one if in_one else attend_in_groups
            self._graphs = Graphs(self._forward, config, self._device, dtype) if in_one else None
        way = "variable-length" if in_one else "grouped"
        self._name = f"torch {precision} {self._device} {way} attention"

    @classmethod
    def open(
        cls,
        bundle: EncoderFiles,
        *,
        precision: str,
        threads: int,
        batch_tokens: int,
        device: str | None = None,
    ) -> TorchRuntime:
        """Reads a bundle's encoder onto a device; arguments as for the constructor.

        Raises:
            WeightsError: the weights cannot be read.
            SettingsError: a precision that torch does not compute here, or no such device.
            EngineError: the device has no room for the weights.
        """
        try:
            return cls(
                _Arrays(bundle.weights()),
                bundle.config,
                precision=precision,
                threads=threads,
                batch_tokens=batch_tokens,
                device=device,
            )
        except torch.OutOfMemoryError as fault:
            raise EngineError(
                "no room for the weights on the device", hint="set XLMR_PRECISION=bf16"
            ) from fault

    @property
    def name(self) -> str:
        """For example `torch bf16 cuda variable-length attention`."""
        return self._name

    @property
    def threads(self) -> int:
        """Threads that compute, of this machine's processors."""
        return int(torch.get_num_threads()) if self._device.type == "cpu" else 1

    @property
    def config(self) -> EncoderConfig:
        """The architecture it computes."""
        return self._config

    @property
    def max_batch_tokens(self) -> int:
        """Largest batch it accepts."""
        return self._max_batch_tokens

    def warm(self) -> None:
        """Computes a long text once, and on CUDA captures the graphs of single texts."""
        longest = min(self._config.max_tokens, self._max_batch_tokens, 512)
        lengths = {longest}
        if self._graphs is not None:
            lengths |= {2**power for power in range(4, 10) if 2**power <= longest}
        for length in sorted(lengths, reverse=True):
            batch = Batch(np.zeros(length, np.int32), np.array([0, length], np.int32))
            for rows in ("all", "first"):
                self.run(batch, rows=rows)

    def run(self, batch: Batch, *, rows: Rows = "all") -> Hidden:
        """See `xlmr.model.runtime.Runtime.run`.

        Cancelled between layers, save for small batches on CUDA, which are one replayed graph.
        """
        self._stop_if_closed()
        check_batch(batch, self._config, self._max_batch_tokens)
        texts = len(batch.starts) - 1
        starts = batch.starts if rows == "all" else np.arange(texts + 1, dtype=np.int32)
        if not texts:
            return Hidden(np.zeros((0, self._config.hidden), np.float32), starts)
        try:
            with self._lock, torch.inference_mode(), self._on_device():
                self._stop_if_closed()
                return Hidden(self._compute(batch, rows == "first"), starts)
        except torch.OutOfMemoryError as fault:
            raise EngineError("no memory for the batch", hint="lower XLMR_BATCH_TOKENS") from fault

    def close(self) -> None:
        """Stops what is running, between two layers, and lets the weights go."""
        self._closed.set()
        with self._lock:
            self._graphs = None
            self._weights = {}
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _compute(self, batch: Batch, first: bool) -> NDArray[np.float32]:
        hidden = None if self._graphs is None else self._graphs.run(batch, first)
        if hidden is None:
            hidden = self._forward(self._row(batch), first, batch.given_up)
        on_cuda = self._device.type == "cuda"
        # Pinned memory comes from torch's cache of it: a plain copy would be staged through it.
        rows = torch.empty(hidden.shape, dtype=torch.float32, pin_memory=on_cuda)
        answer: NDArray[np.float32] = rows.copy_(hidden).numpy()
        return answer

    def _row(self, batch: Batch) -> Row:
        tokens, texts = len(batch.ids_T), len(batch.starts) - 1
        laid = torch.from_numpy(lay_out(batch, self._config.pad_id, tokens, texts))
        longest = int((batch.starts[1:] - batch.starts[:-1]).max())
        grouped = self._attend is attend_in_groups
        groups = groups_of(batch.starts, self._device) if grouped else ()
        return row_of(laid.to(self._device), tokens, texts, longest, groups)

    def _forward(
        self, row: Row, first: bool, given_up: NDArray[np.uint8] | None = None
    ) -> torch.Tensor:
        return forward(
            row,
            self._weights,
            self._config,
            self._attend,
            first=first,
            between_layers=partial(self._stop_if_closed, given_up),
        )

    def _stop_if_closed(self, given_up: NDArray[np.uint8] | None = None) -> None:
        if self._closed.is_set() or (given_up is not None and given_up[0]):
            raise CancelledError("it was given up, or the runtime was closed")

    def _on_device(self) -> contextlib.AbstractContextManager[Any]:
        """Makes the device the current one: streams and graphs are made on that."""
        if self._device.type != "cuda":
            return contextlib.nullcontext()
        on_device: contextlib.AbstractContextManager[Any] = torch.cuda.device(self._device)
        return on_device


class _Arrays(Mapping[str, NDArray[np.float32]]):
    """A model's encoder arrays by our names, each read when it is asked for."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self._weights.encoder(name)

    def __iter__(self) -> Any:
        return iter(self._weights.encoder_names())

    def __len__(self) -> int:
        return len(self._weights.encoder_names())


def _usable_device(name: str | None) -> torch.device:
    name = ("cuda" if torch.cuda.is_available() else "cpu") if name is None else name
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as fault:  # an AssertionError where built without CUDA
        raise SettingsError(f"torch cannot use the device {name!r}", hint="try cpu") from fault
    return device
