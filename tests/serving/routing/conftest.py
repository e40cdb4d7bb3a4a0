"""Three versions of a classifier in one data plane, each with a runtime that does as it is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import tiny_model, write_linear_head

from xlmr.model.runtime import Runtime
from xlmr.registry.rollout.evidence import Evidence
from xlmr.registry.rollout.routing import Counting
from xlmr.serving.admission import Limits
from xlmr.serving.cache import AnswerCache
from xlmr.serving.cache_store import Store
from xlmr.serving.dataplane import ClassifyOptions, Dataplane, Question
from xlmr.serving.engines import warm_runtime
from xlmr.serving.pool import open_pool
from xlmr.serving.quota import Quotas
from xlmr.settings import Settings
from xlmr.telemetry.logs import RequestRecord
from xlmr.telemetry.metrics import Metrics
from xlmr.types import Batch, Caller, Hidden, Language, Quota, Rows

LANGUAGES = {"hello": "en", "世界": "zh", "привет": "ru"}


class Willed:
    """A real runtime that can be held, and told what to do before and after it computes."""

    def __init__(self, runtime: Runtime) -> None:
        self.inner = runtime
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.before: Callable[[Batch], object] = lambda batch: None
        self.after: Callable[[Hidden], Hidden] = lambda hidden: hidden
        self.runs = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def run(self, batch: Batch, *, rows: Rows = "all") -> Hidden:
        self.runs += 1
        self.entered.release()
        assert self.gate.wait(30)
        self.before(batch)
        return self.after(self.inner.run(batch, rows=rows))


def identify(texts: Any) -> list[Language]:
    """By the first word."""
    return [Language(LANGUAGES.get(text.split()[0], "und"), 1.0) for text in texts]


@dataclass
class Log:
    records: list[RequestRecord] = field(default_factory=list)

    def takes(self, code: str) -> bool:
        return True

    def write(self, record: RequestRecord) -> None:
        self.records.append(record)


@dataclass
class House:
    """A data plane, and what computes each version."""

    plane: Dataplane
    metrics: Metrics
    log: Log
    willed: dict[str, Willed]

    async def ask(self, *items: Any, **fields: Any) -> Any:
        usual = {"id": "r", "model": "router", "task": "classify", "options": ClassifyOptions()}
        return await self.plane.answer(Question(**(usual | {"items": items} | fields)))

    async def shadows(self) -> None:
        """Waits until no copy waits."""
        for _ in range(2000):
            if self.plane.shadows.idle:
                return
            await asyncio.sleep(0.005)
        pytest.fail("the shadows never ended")

    def counted(self) -> Evidence:
        """Everything since the last time."""
        found = Evidence()
        for drained in self.plane.tally.drain(now=60.0):
            found += drained.evidence
        return found

    def fallbacks(self, reason: str) -> float:
        return self.metrics.value("xlmr_route_fallbacks_total", reason=reason)


def counting_of(**changed: Any) -> Counting:
    usual: dict[str, Any] = {
        "salt": "s",
        "epoch": 0,
        "objective_ms": None,
        "low_confidence_below": 0.0,
        "unit": "request",
        "shadow_capacity": 1.0,
    }
    return Counting(**(usual | changed))


@pytest.fixture(scope="session")
def counting() -> Callable[..., Counting]:
    return counting_of


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classifiers of the same labels, each on its own encoder; one of others; vectors."""
    root = tmp_path_factory.mktemp("versions")
    for version in ("1", "2", "3"):
        tiny_model(root / version, "classify", seed=int(version))
    tiny_model(root / "other", "embed", seed=9)
    write_linear_head(root / "other" / "embed", ("refund", "delivery"))
    tiny_model(root / "vectors", "embed", seed=4)
    return root


@pytest.fixture
def planes_of(versions: Path, tmp_path: Path) -> Iterator[Callable[..., House]]:
    """A data plane with some versions of `router`, the first of them live."""
    made: list[House] = []

    def make(*names: str, cached: bool = False, quota: Quota | None = None) -> House:
        settings = Settings(runtime="reference", cache_dir=tmp_path)
        metrics, runtimes = Metrics(), []

        def willed(bundle: Any, settings: Settings) -> Any:
            runtimes.append(Willed(warm_runtime(bundle, settings)))
            return runtimes[-1]

        places = []
        for name in names:
            kind = "embed" if name in ("other", "vectors") else "classify"
            places.append(f"router@{name}={versions / name / kind}")
        pool = open_pool(places, settings, metrics, runtime_of=willed)
        pool.point("router", "live", names[0])
        log = Log()
        plane = Dataplane(
            pool,
            limits=Limits(max_items=8, max_chars=5000),
            metrics=metrics,
            log=log,
            identify=identify,
            cache=AnswerCache(Store(1_000_000), metrics=metrics) if cached else None,
            quotas=Quotas(metrics=metrics, default=quota) if quota else None,
        )
        house = House(plane, metrics, log, dict(zip(names, runtimes, strict=True)))
        for runtime in runtimes:
            runtime.runs, runtime.entered = 0, threading.Semaphore(0)
        made.append(house)
        return house

    yield make
    for house in made:
        for runtime in house.willed.values():
            runtime.gate.set()
        house.plane.close()
        house.plane.pool.close()


@pytest.fixture(scope="session")
def caller() -> Callable[[str], Caller]:
    return lambda name: Caller(name=name)
