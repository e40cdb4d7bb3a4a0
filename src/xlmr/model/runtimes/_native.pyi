"""The native engine's types; the implementation is native/src/bindings.cpp."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

class WeightsFault(ValueError):
    """A prepared weight file is missing, damaged, stale or of another model."""

class BrokenWeights(RuntimeError):
    """The weights to be prepared hold a NaN or an infinity."""

class NotFinite(RuntimeError):
    """The activations of a run hold a NaN or an infinity."""

class ThreadsFault(RuntimeError):
    """The system gives no more threads."""

class Cancelled(RuntimeError):
    """The run was cancelled between two layers."""

class Shape:
    """The architecture as numbers; see `xlmr.model.config.EncoderConfig`."""

    def __init__(
        self,
        *,
        vocabulary: int,
        hidden: int,
        layers: int,
        heads: int,
        intermediate: int,
        position_rows: int,
        pad_id: int,
        norm_epsilon: float,
        pre_norm: bool,
    ) -> None: ...

class Engine:
    """One encoder over a mapped file of prepared weights."""

    threads: int
    isa: str

    def __init__(
        self, path: str, shape: Shape, precision: str, digest: str, isa: str, threads: int
    ) -> None: ...
    def run(
        self,
        ids: NDArray[np.int32],
        starts: NDArray[np.int32],
        first_rows: bool,
        given_up: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.float32]:
        """ids [T] and starts [B + 1] to the last layer, [T, D] or [B, D].

        It ends before its next layer once the one byte of `given_up` is not 0.
        """

    def cancel(self) -> None:
        """Ends the run in progress before its next layer."""

def prepare(
    path: str,
    shape: Shape,
    precision: str,
    digest: str,
    source: Callable[[str], NDArray[np.float32]],
    progress: Callable[[int, int], Any] | None = None,
) -> None:
    """Writes the prepared weight file; `source` gives each array by name."""

def byte_sums(
    isa: str, activations: NDArray[np.int8], weights: NDArray[np.int8]
) -> NDArray[np.int32]:
    """Exact integer sums, activations [M, K] times weights [N, K] transposed, for tests."""

def instruction_sets() -> list[str]:
    """Names of the kernels this processor can run, best first."""

def ceiling(threads: int, isa: str = "auto", milliseconds: float = 10.0) -> dict[str, float]:
    """1e9 operations a second of bare dot products by kind: `int8`, `bf16`, `fp32`.

    A multiply-add counts as two. Kinds that `isa` has no instruction for are left out; each takes
    `milliseconds`.
    """
