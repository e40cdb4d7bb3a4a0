"""Servers that follow a registry, without doors: what is asked of them is asked of their pool."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.serving.follow.parts import Place, routers

from xlmr.serving.follow.opening import Following
from xlmr.serving.pool import Pool
from xlmr.serving.routing.book import RouteBook
from xlmr.serving.routing.tally import Tally
from xlmr.telemetry.metrics import Metrics

PATIENCE_S = 30.0


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return routers(tmp_path_factory.mktemp("routers"), 3)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "place")


@dataclass
class Follows:
    """A pool that follows."""

    pool: Pool
    book: RouteBook
    tally: Tally
    metrics: Metrics
    following: Following

    def ready(self) -> set[str]:
        return {state.version for state in self.pool.states() if state.state == "ready"}

    def failed(self) -> dict[str, str]:
        return {s.version: s.reason for s in self.pool.states() if s.state == "failed"}

    def answers(self, name: str = "router") -> str:
        """The version that a name leads to; empty for none."""
        served = self.pool.models.get(name)
        return "" if served is None else served.ref.version

    def until(self, holds: Callable[[], object]) -> float:
        """Waits until something holds; how long that took, in seconds."""
        began = time.monotonic()
        while not holds():
            assert time.monotonic() < began + PATIENCE_S, (self.pool.states(), self.book.routes)
            time.sleep(0.01)
        return time.monotonic() - began


@pytest.fixture
def server_of(place: Place) -> Iterator[Callable[..., Follows]]:
    """Starts one that follows `router`."""
    started: list[Follows] = []

    def start(cache: str = "cache", **settings: Any) -> Follows:
        told, metrics = place.settings(cache, **settings), Metrics()
        pool = Pool(told, metrics)
        book, tally = RouteBook(pool), Tally()
        following = Following(["router"], pool, book, tally, told, metrics)
        started.append(Follows(pool, book, tally, metrics, following))
        following.begin()
        return started[-1]

    yield start
    for one in started:
        one.following.close()
        one.pool.close()
