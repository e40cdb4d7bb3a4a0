"""A runtime that can be watched, held and broken, for everything that stands above it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from xlmr.model.config import EncoderConfig
from xlmr.serving.batcher import Batcher
from xlmr.telemetry.metrics import Metrics
from xlmr.types import Batch, Encoding, Hidden, Rows

CONFIG = EncoderConfig(
    vocabulary=1000,
    hidden=2,
    layers=1,
    heads=1,
    intermediate=2,
    position_rows=66,
    pad_id=1,
    norm_epsilon=1e-5,
    pre_norm=False,
)


@dataclass
class WatchedRuntime:
    """A token's vector is (its id, its place in its text), so every answer can be told apart.

    It computes while `gate` is open; `entered` counts runs that have begun.
    """

    max_batch_tokens: int = 64
    config: EncoderConfig = CONFIG
    name: str = "watched"
    batches: list[tuple[int, Rows]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    first_ids: list[list[int]] = field(default_factory=list)
    fault: BaseException | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        self.gate.set()

    def warm(self) -> None:
        """Nothing to warm."""

    def close(self) -> None:
        """Nothing to close."""

    def run(self, batch: Batch, *, rows: Rows = "all") -> Hidden:
        starts = batch.starts.tolist()
        self.batches.append((len(batch.ids_T), rows))
        self.sizes.append(len(starts) - 1)
        self.first_ids.append([int(batch.ids_T[start]) for start in starts[:-1]])
        self.entered.release()
        assert self.gate.wait(10)
        if self.fault is not None:
            raise self.fault
        places = [np.arange(b - a) for a, b in zip(starts, starts[1:], strict=False)]
        hidden_TD = np.stack([batch.ids_T, np.concatenate(places)], axis=1).astype(np.float32)
        if rows == "all":
            return Hidden(hidden_TD, batch.starts)
        return Hidden(hidden_TD[batch.starts[:-1]], np.arange(len(starts), dtype=np.int32))


def encoding(*ids: int) -> Encoding:
    return Encoding(
        ids=ids,
        offsets=tuple((0, 0) for _ in ids),
        segments=tuple(0 for _ in ids),
        total_tokens=len(ids),
        unknown=0,
    )


@pytest.fixture(scope="session")
def encode() -> Callable[..., Encoding]:
    """An encoding of the given ids."""
    return encoding


@pytest.fixture
def watched() -> WatchedRuntime:
    return WatchedRuntime()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def batcher_of(metrics: Metrics) -> Iterator[Callable[..., Batcher]]:
    """Makes batchers, and closes them."""
    made: list[tuple[Batcher, WatchedRuntime]] = []

    def make(runtime: WatchedRuntime, *, batch_tokens: int = 64, queue_tokens: int = 1000) -> Batcher:
        batcher = Batcher(
            runtime, batch_tokens=batch_tokens, queue_tokens=queue_tokens, metrics=metrics
        )
        made.append((batcher, runtime))
        return batcher

    yield make
    for batcher, runtime in made:
        runtime.gate.set()
        batcher.close()


@pytest.fixture(scope="session")
def watched_class() -> type[WatchedRuntime]:
    return WatchedRuntime
