"""Routes by name: an immutable value, replaced whole, so that a reader needs no lock."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xlmr.registry.rollout.assignment import Canary, Ensemble, Route, Shadow, Single
from xlmr.serving.routing.ensemble import check_alike
from xlmr.serving.versions import LIVE

if TYPE_CHECKING:
    from xlmr.registry.rollout.routing import Counting
    from xlmr.serving.pool import Pool


@dataclass(frozen=True, slots=True)
class Page:
    """What is followed for one name.

    Attributes:
        counting: None where nothing is counted.
        places: what each version of the route is called in the pool: `name@version`.
        alone: the version that answers everything, where nothing is counted; else empty.
    """

    name: str
    route: Route
    counting: Counting | None
    places: Mapping[str, str]
    alone: str = ""


class RouteBook:
    """The routes of a server. `set` and `drop` may be called from any thread.

    A name that is not in it leads where the pool's aliases lead.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._pages: dict[str, Page] = {}

    def set(self, name: str, route: Route, counting: Counting | None = None) -> None:
        """From the next request on, the bare name and `name@live` follow a route.

        Raises:
            SettingsError: an ensemble of versions whose answers cannot be averaged.
        """
        if isinstance(route, Ensemble):
            loaded = self._pool.versions.get(name, {})
            check_alike([loaded.get(version) for version in route.versions])
        places = {version: f"{name}@{version}" for version in route.versions}
        alone = route.version if isinstance(route, Single) and counting is None else ""
        page = Page(name, route, counting, places, alone)
        with self._lock:
            self._pages = {**self._pages, name: page, f"{name}@{LIVE}": page}

    def drop(self, name: str) -> None:
        """From the next request on, the name leads where its alias `live` does."""
        gone = (name, f"{name}@{LIVE}")
        with self._lock:
            self._pages = {key: page for key, page in self._pages.items() if key not in gone}

    def get(self, asked: str | None, task: str) -> Page | None:
        """What to follow for a model as it was asked for; None where no route says so."""
        pages = self._pages
        if asked is None and pages:
            asked = self._pool.route(None, task).ref.name
        return pages.get(asked) if asked is not None else None

    def on_trial(self) -> list[tuple[str, str]]:
        """Names and versions of candidates: one that hangs must not take the server with it."""
        routes = self.routes
        return [(n, r.candidate) for n, r in routes.items() if isinstance(r, Canary | Shadow)]

    @property
    def routes(self) -> dict[str, Route]:
        """The route of each name."""
        return {page.name: page.route for page in self._pages.values()}
