"""What a registry names is loaded, gets its aliases and its route here, and is let go again.

One thread reads the table every second and carries out what can be: it waits for nothing but that
read. Another brings versions, one after the other, and that may take minutes. So a promotion to a
version that is loaded already, or a rollback, takes effect with the next look, whatever else is
under way. What cannot be read or brought changes nothing of what is served.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xlmr.errors import (
    DigestMismatchError,
    ModelConflictError,
    ModelNotFoundError,
    SignatureError,
    XlmrError,
)
from xlmr.serving.follow.outage import Outage
from xlmr.serving.follow.words import route_in_words
from xlmr.serving.versions import Order

if TYPE_CHECKING:
    from xlmr.registry.rollout.assignment import Route
    from xlmr.registry.rollout.routing import Counting, Routing
    from xlmr.serving.follow.copies import Copies
    from xlmr.serving.follow.kept import Kept
    from xlmr.serving.pool import Pool
    from xlmr.serving.routing.book import RouteBook

logger = logging.getLogger("xlmr.serving.follow")

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_SWEEP_S = 3600.0
_CLOSE_S = 5.0


class Wanted(NamedTuple):
    """A version that is named and not there."""

    name: str
    version: str
    digest: str


class _Failure(NamedTuple):
    times: int
    until: float


class Follower:
    """Follows the registry for some names.

    Args:
        pool: where versions are loaded.
        book: where routes are set.
        names: that are followed.
        read: the registry's table for these names.
        pull: writes a version, `NAME@VERSION`, as a model directory in the place of one there.
        copies: where pulled versions lie.
        kept: where the table lies that was carried out last.
        every_s: between two looks.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        pool: Pool,
        book: RouteBook,
        *,
        names: Collection[str],
        read: Callable[[], Mapping[str, Routing]],
        pull: Callable[[str, Path], None],
        copies: Copies,
        kept: Kept,
        every_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool, self._book = pool, book
        self._names = tuple(names)
        self._read, self._pull = read, pull
        self._copies, self._kept = copies, kept
        self._every_s, self._clock = every_s, clock
        self._table: dict[str, Routing] = {}
        # What the server before this one carried out last.
        self._past: dict[str, Routing] = {}
        # What was carried out here: the route of each name, and its routing once it was kept.
        self._routes: dict[str, tuple[Route, Counting | None]] = {}
        self._done: dict[str, Routing] = {}
        self._read_at = clock()
        self._swept_at = -math.inf
        self._away = Outage("the registry cannot be read; what is served stays as it is")
        said = "{} cannot follow the registry; it stays as it is"
        self._hindered = {name: Outage(said.format(name)) for name in self._names}
        self._unknown: frozenset[str] = frozenset()
        self._changed = threading.Condition()
        self._loaded: dict[tuple[str, str], str] = {}
        self._missing: list[Wanted] = []
        self._failures: dict[Wanted, _Failure] = {}
        self._woken, self._settled = threading.Event(), threading.Event()
        self._ended = False
        self._threads = [
            threading.Thread(target=self._follow, name="xlmr-follow", daemon=True),
            threading.Thread(target=self._bring_all, name="xlmr-bring", daemon=True),
        ]

    @property
    def age_s(self) -> float:
        """Seconds since the registry was last read; since the start where it never was."""
        return self._clock() - self._read_at

    def counts(self) -> dict[str, int]:
        """How many versions that the registry names are `ready`, `failed` or still `missing`."""
        with self._changed:
            failed = sum(wanted in self._failures for wanted in self._missing)
            return {
                "ready": len(self._loaded),
                "failed": failed,
                "missing": len(self._missing) - failed,
            }

    def begin(self) -> None:
        """Starts, and waits until what is named is loaded or has failed once.

        Where the registry cannot be read, or its live version cannot be had, that is what was
        carried out last on this machine.
        """
        self._look()
        kept = [self._kept.read(name) for name in self._names]
        self._past = {routing.name: routing for routing in kept if routing is not None}
        for name in self._past.keys() - self._table.keys():
            logger.warning("%s is served as it was when the registry was last read", name)
            self._table[name] = self._past[name]
        for thread in self._threads:
            thread.start()
        self._settled.wait()

    def close(self) -> None:
        """Ends it; a version that is being brought is not waited for."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._woken.set()
        self._settled.set()
        follows = self._threads[0]
        if follows.is_alive():
            follows.join(_CLOSE_S)

    def round(self) -> None:
        """One look at the registry, and everything that can be done at once."""
        self._look()
        self._carry_out_all()

    def _follow(self) -> None:
        look_at = self._clock()
        while not self._ended:
            try:
                if self._clock() >= look_at:
                    look_at = self._clock() + self._every_s
                    self._look()
                self._carry_out_all()
            except Exception:
                logger.exception("following the registry failed; the next look comes")
            self._woken.wait(max(0.0, look_at - self._clock()))
            self._woken.clear()

    def _carry_out_all(self) -> None:
        missing: list[Wanted] = []
        for name, routing in self._table.items():
            due, ready = self._due(routing), self._ready()
            named = [wanted for one in due for wanted in _named(one)]
            missing += [wanted for wanted in named if wanted not in ready]
            try:
                for one in due:
                    self._carry_out(one, {w.version for w in _named(one) if w in ready})
                self._let_go(name, {wanted.version for wanted in named})
            except XlmrError as fault:
                self._hindered[name].failed(fault)
            else:
                self._hindered[name].over()
        with self._changed:
            self._missing = missing
            for gone in self._failures.keys() - set(missing):
                del self._failures[gone]
            self._changed.notify_all()
            if all(wanted in self._failures for wanted in missing):
                self._settled.set()
        if self._clock() - self._swept_at >= _SWEEP_S:
            self._swept_at = self._clock()
            self._sweep()

    def _due(self, routing: Routing) -> list[Routing]:
        """What is to be carried out: for a name that answers nothing, if need be the past too."""
        past = self._past.get(routing.name)
        if past is None or routing.name in self._routes:
            return [routing]
        return [routing, past] if _named(routing)[0] in self._failures else [routing]

    def _sweep(self) -> None:
        routings = (*self._table.values(), *self._past.values())
        used = {digest for routing in routings for digest in routing.digests.values()}
        # A worker that is replaced opens what the first one opened.
        opened = {engine.directory.name for engine in self._pool.engines}
        self._copies.sweep(used | opened)

    def _look(self) -> None:
        """Reads the table; where that fails, it stays as it is."""
        try:
            table = self._read()
        except XlmrError as fault:
            self._away.failed(fault)
            return
        self._away.over()
        self._read_at = self._clock()
        self._table.update(table)
        unknown = frozenset(self._names) - table.keys()
        for name in sorted(unknown - self._unknown):
            logger.warning("no version of %s is live in the registry; nothing changes here", name)
        self._unknown = unknown

    def _carry_out(self, routing: Routing, ready: set[str]) -> None:
        """Does what can be done with the versions that are ready."""
        answered = set(routing.route.versions) <= ready
        if answered:
            self._set_route(routing)
        self._point(routing, ready)
        new = self._done.get(routing.name) != routing
        if answered and routing.live in ready and new and self._kept.write(routing):
            self._done[routing.name] = routing

    def _ready(self) -> set[Wanted]:
        """Versions that were brought, and answer."""
        with self._changed:
            answering = {(s.name, s.version) for s in self._pool.states() if s.state == "ready"}
            for key in self._loaded.keys() - answering:
                del self._loaded[key]
            return {Wanted(*key, digest) for key, digest in self._loaded.items()}

    def _aliases(self, name: str) -> dict[str, str]:
        states = [s for s in self._pool.states() if (s.name, s.state) == (name, "ready")]
        return {alias: state.version for state in states for alias in state.aliases}

    def _point(self, routing: Routing, ready: Collection[str]) -> None:
        """Aliases lead to ready versions at once, to others once they are."""
        name, now = routing.name, self._aliases(routing.name)
        for alias, version in routing.aliases.items():
            before = now.get(alias)
            if version in ready and before != version:
                self._pool.point(name, alias, version)
                logger.info("%s@%s is version %s, was %s", name, alias, version, before or "none")
        for alias in now.keys() - routing.aliases.keys():
            self._pool.drop_alias(name, alias)
            logger.info("%s@%s is no more", name, alias)

    def _set_route(self, routing: Routing) -> None:
        name, route = routing.name, (routing.route, routing.counting)
        if self._routes.get(name) != route:
            self._book.set(name, *route)
            self._routes[name] = route
            logger.info("%s: %s", name, route_in_words(routing.route))

    def _let_go(self, name: str, named: set[str]) -> None:
        """Unloads what nobody names, and no route or alias leads to here any more."""
        kept = named | set(self._aliases(name).values())
        if name in self._routes:
            kept |= set(self._routes[name][0].versions)
        with self._changed:
            idle = {v for n, v in self._loaded if n == name} - kept
        failed = {s.version for s in self._pool.states() if (s.name, s.state) == (name, "failed")}
        for version in idle | (failed - named):
            with suppress(ModelConflictError, ModelNotFoundError):
                self._pool.unload(name, version)
                with self._changed:
                    self._loaded.pop((name, version), None)

    def _bring_all(self) -> None:
        while (wanted := self._next()) is not None:
            try:
                self._bring(wanted)
            except Exception:
                logger.exception("%s@%s: bringing it failed", wanted.name, wanted.version)
                self._failed(wanted)
            self._woken.set()

    def _next(self) -> Wanted | None:
        """The first missing version whose time has come; waits for one. None at the end."""
        with self._changed:
            while not self._ended:
                now = self._clock()
                waits = {w: max(0.0, self._until(w) - now) for w in self._missing if self._lacks(w)}
                for wanted, wait_s in waits.items():
                    if wait_s == 0.0:
                        return wanted
                self._changed.wait(min(waits.values(), default=None))
        return None

    def _lacks(self, wanted: Wanted) -> bool:
        return self._loaded.get((wanted.name, wanted.version)) != wanted.digest

    def _bring(self, wanted: Wanted) -> None:
        name, version, digest = wanted
        order = Order(
            directory=self._copies.path(digest),
            name=name,
            version=version,
            tree=digest,
            bring=lambda: self._copies.bring(
                digest, lambda out: self._pull(f"{name}@{version}", out)
            ),
        )
        try:
            self._pool.load(order)
        except XlmrError as fault:
            if isinstance(fault, DigestMismatchError | SignatureError):
                self._copies.doubt(digest)
            self._failed(wanted)
            logger.error("%s@%s is not served: %s", name, version, fault)
            return
        with self._changed:
            self._failures.pop(wanted, None)
            self._loaded[name, version] = digest

    def _failed(self, wanted: Wanted) -> None:
        """It is tried again, ever more seldom."""
        with self._changed:
            times = self._failures[wanted].times + 1 if wanted in self._failures else 1
            pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(times - 1, 16))
            self._failures[wanted] = _Failure(times, self._clock() + pause)

    def _until(self, wanted: Wanted) -> float:
        return self._failures[wanted].until if wanted in self._failures else 0.0


def _named(routing: Routing) -> list[Wanted]:
    """Every version that a routing names, the most needed first."""
    order = [routing.live, *routing.route.versions, *routing.warm, *routing.aliases.values()]
    digests = routing.digests
    return [Wanted(routing.name, v, digests[v]) for v in dict.fromkeys(order) if v in digests]
