"""A runtime that can be watched, held and broken, for everything that stands above it."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import ssl
import threading
import time
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
from xlmr.serving.engines import warm_runtime
from xlmr.serving.entry import open_doorkeeper, read_tls
from xlmr.serving.grpc import grpc_door
from xlmr.serving.http.app import build_app
from xlmr.serving.http.server import Server, address_of, bind
from xlmr.serving.observing.opening import Observing, open_observing
from xlmr.serving.pool import open_pool
from xlmr.serving.sharing import open_sharing
from xlmr.settings import Settings
from xlmr.telemetry.logs import RequestRecord
from xlmr.telemetry.metrics import Metrics
from xlmr.telemetry.traces import Tracer
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
    made: list[tuple[Batcher, tuple[WatchedRuntime, ...]]] = []

    def make(*runtimes: WatchedRuntime, **options: Any) -> Batcher:
        # A runtime that is held looks slow; batches are cut by tokens alone.
        usual = {"batch_tokens": 64, "queue_tokens": 1000, "batch_seconds": 1e9}
        batcher = Batcher(runtimes, metrics=metrics, **(usual | options))
        made.append((batcher, runtimes))
        return batcher

    yield make
    for batcher, runtimes in made:
        for runtime in runtimes:
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

    def forget(self) -> None:
        """Counts anew: what a model had to prove before it was served is no request."""
        self.texts.clear()
        self.entered = threading.Semaphore(0)

    def run(self, batch: Batch, *, rows: Rows = "all") -> Hidden:
        self.texts.append(len(batch.starts) - 1)
        self.entered.release()
        assert self.gate.wait(20)
        if self.fault is not None:
            raise self.fault
        return self.inner.run(batch, rows=rows)


class Log:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []

    def takes(self, code: str) -> bool:
        return True

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
    observing: Observing
    grpc_address: str = ""

    def classify(self, **body: Any) -> httpx.Response:
        return self.client.post("/v1/classify", json=body)

    def embed(self, **body: Any) -> httpx.Response:
        return self.client.post("/v1/embeddings", json={"model": "sentences", **body})

    def later(
        self, path: str, *, headers: dict[str, str] | None = None, **body: Any
    ) -> threading.Thread:
        """Asks in a thread, on a connection of its own."""
        thread = threading.Thread(
            target=httpx.post,
            args=(self.address + path,),
            kwargs={"json": body, "timeout": 20, "headers": headers},
        )
        thread.start()
        return thread

    def until(self, holds: Callable[[], bool]) -> None:
        """Waits until something holds."""
        for _ in range(2000):
            if holds():
                return
            time.sleep(0.005)
        pytest.fail("it never held")


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
def running(
    places: list[str], *, log: Any = None, tracer: Tracer | None = None, **knobs: Any
) -> Iterator[House]:
    # Most tests count or hold what is computed: they ask for a cache where they mean one.
    settings = Settings(**{"runtime": "reference", "cache_bytes": 0} | knobs)
    metrics = Metrics(price_per_hour=settings.price_per_hour)
    log, runtimes = Log() if log is None else log, []

    def gated(bundle: Bundle, settings: Settings) -> Any:
        runtimes.append(Gated(warm_runtime(bundle, settings)))
        return runtimes[-1]

    pool = open_pool(places, settings, metrics, runtime_of=gated)
    for runtime in runtimes:
        runtime.forget()
    limits = Limits(
        max_items=settings.max_items,
        max_chars=settings.max_chars,
        max_tokens=settings.max_tokens,
    )
    sharing, observing = open_sharing(settings, metrics), open_observing(settings, metrics, pool)
    plane = Dataplane(
        pool,
        limits=limits,
        metrics=metrics,
        log=log,
        identify=identify_many,
        tracer=tracer,
        cache=sharing.cache,
        quotas=sharing.quotas,
        doorkeeper=open_doorkeeper(settings),
        observing=observing,
        default_deadline_s=settings.default_deadline_ms / 1000,
    )
    tls = read_tls(settings)
    listening = threading.Event()
    doors = []
    if settings.grpc_port >= 0:
        size = settings.max_body_bytes
        doors.append(
            grpc_door(
                plane,
                host="127.0.0.1",
                port=settings.grpc_port,
                max_body_bytes=size,
                credentials=None if tls is None else tls.grpc_credentials(),
            )
        )
    server = Server(
        build_app(
            plane,
            max_body_bytes=settings.max_body_bytes,
            metrics_role=settings.metrics_role or None,
        ),
        plane,
        tls=tls,
        doors=doors,
        drain_seconds=settings.drain_seconds,
        client_seconds=settings.client_seconds,
        on_listening=listening.set,
        on_stopped=sharing.close,
    )
    bound = bind("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    assert listening.wait(10)
    address = address_of(bound, tls=tls is not None)
    verify = True if tls is None else ssl.create_default_context(cafile=tls.cert)
    try:
        with httpx.Client(base_url=address, timeout=20, verify=verify) as client:
            house = House(
                address, server, plane, metrics, log, runtimes[0], client, thread, observing
            )
            house.grpc_address = doors[0].address if doors else ""
            yield house
    finally:
        for runtime in runtimes:
            runtime.gate.set()
        server.drain()
        thread.join(20)
        plane.close()
        observing.close()
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
