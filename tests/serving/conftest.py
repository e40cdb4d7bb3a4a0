"""A runtime that can be watched, held and broken, for everything that stands above it."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.tiny import tiny_model, write_linear_head

from xlmr.model.bundle import Bundle
from xlmr.model.config import EncoderConfig
from xlmr.model.runtime import Runtime
from xlmr.serving.admission import Limits
from xlmr.serving.batcher import Batcher
from xlmr.serving.dataplane import Dataplane
from xlmr.serving.http.app import build_app
from xlmr.serving.http.server import Server, address_of, bind
from xlmr.serving.pool import open_pool, warm_runtime
from xlmr.settings import Settings
from xlmr.telemetry.logs import RequestRecord
from xlmr.telemetry.metrics import Metrics
from xlmr.text.language import identify_many
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
        places = [np.arange(b - a) for a, b in itertools.pairwise(starts)]
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

    def make(
        runtime: WatchedRuntime, *, batch_tokens: int = 64, queue_tokens: int = 1000
    ) -> Batcher:
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


class Gated:
    """A real runtime that can be held, broken and counted."""

    def __init__(self, runtime: Runtime) -> None:
        self.inner = runtime
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.fault: Exception | None = None
        self.texts: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def run(self, batch: Batch, *, rows: Rows = "all") -> Hidden:
        self.texts.append(len(batch.starts) - 1)
        self.entered.release()
        assert self.gate.wait(20)
        if self.fault is not None:
            raise self.fault
        return self.inner.run(batch, rows=rows)


class Log:
    """Keeps what is logged."""

    wants_fingerprints = True

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []

    def write(self, record: RequestRecord) -> None:
        self.records.append(record)


@dataclass
class House:
    """A server on a real socket, and everything behind it."""

    address: str
    server: Server
    plane: Dataplane
    metrics: Metrics
    log: Log
    gated: Gated
    client: httpx.Client
    thread: threading.Thread

    def classify(self, **body: Any) -> httpx.Response:
        return self.client.post("/v1/classify", json=body)

    def embed(self, **body: Any) -> httpx.Response:
        return self.client.post("/v1/embeddings", json={"model": "sentences", **body})


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A router and plain embeddings on the same encoder, and a classifier with its own."""
    root = tmp_path_factory.mktemp("models")
    tiny_model(root, "embed").rename(root / "sentences")
    shutil.copytree(root / "sentences", root / "router")
    write_linear_head(root / "router", ("refund", "delivery", "other"))
    tiny_model(root, "classify", seed=1)
    return root


@contextlib.contextmanager
def running(places: list[str], **knobs: Any) -> Iterator[House]:
    settings = Settings(runtime="reference", **knobs)
    metrics, log, runtimes = Metrics(), Log(), []

    def gated(bundle: Bundle, settings: Settings) -> Any:
        runtimes.append(Gated(warm_runtime(bundle, settings)))
        return runtimes[-1]

    pool = open_pool(places, settings, metrics, runtime_of=gated)
    limits = Limits(max_items=settings.max_items, max_chars=settings.max_chars)
    plane = Dataplane(pool, limits=limits, metrics=metrics, log=log, identify=identify_many)
    listening = threading.Event()
    server = Server(
        build_app(plane, max_body_bytes=settings.max_body_bytes),
        plane,
        drain_seconds=settings.drain_seconds,
        on_listening=listening.set,
    )
    bound = bind("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    assert listening.wait(10)
    address = address_of(bound)
    with httpx.Client(base_url=address, timeout=20) as client:
        yield House(address, server, plane, metrics, log, runtimes[0], client, thread)
    for runtime in runtimes:
        runtime.gate.set()
    server.drain()
    thread.join(20)
    plane.close()
    pool.close()
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def house(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Shared by tests that leave it as they found it."""
    places = [str(models / "router"), str(models / "sentences")]
    cache = tmp_path_factory.mktemp("cache")
    with running(places, cache_dir=cache, max_body_bytes=3_000_000) as house:
        yield house


@pytest.fixture
def house_of(models: Path, tmp_path: Path) -> Callable[..., Any]:
    """A server of one's own: `with house_of("router", queue_tokens=64) as house`."""
    return lambda *names, **knobs: running(
        [str(models / name) for name in names], cache_dir=tmp_path, **knobs
    )


@pytest.fixture(scope="session")
def gated_class() -> type[Gated]:
    return Gated
