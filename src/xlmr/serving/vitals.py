"""Whether the engines of a pool live and answer.

Alive: every compute thread moves. Answering: each engine has answered something, its own probe
included, within the last seconds. Under load the answers themselves show it; a thread asks engines
that nobody else asks for the shortest text there is.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from xlmr.serving.engines import Engine
    from xlmr.serving.pool import Pool

# Of the silence that ends readiness: so many probes are missed by then.
_PROBES = 4


class Vitals:
    """What the health pages tell of a pool. Until `start`, silence is not held against it.

    Attributes:
        on_trial: says which versions, as (name, version), may hang without any harm to the server.
    """

    def __init__(self, pool: Pool, *, ready_seconds: float) -> None:
        self._pool = pool
        self._ready_seconds = ready_seconds
        self.on_trial: Callable[[], Collection[tuple[str, str]]] = tuple
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._ended = threading.Event()

    def start(self) -> None:
        """Begins to ask engines that are not asked by others."""
        self._thread = threading.Thread(target=self._beat, name="xlmr-pulse", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends that. Calling it twice, or without `start`, is harmless."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def started(self) -> None:
        """The first models are loaded."""
        self._started.set()

    def dying(self) -> list[str]:
        """Why the process should be restarted; nothing while all compute threads move."""
        return [
            f"{self._users(engine)}: the compute thread has died or hangs"
            for engine in self._needed()
            if not engine.batcher.alive
        ]

    def unready(self) -> list[str]:
        """Why no requests should be sent here; nothing where they should."""
        if not self._pool.models:
            return [self._progress() or "no model is loaded"]
        reasons = self.dying()
        if self._thread is not None:
            reasons += [
                f"{self._users(engine)}: no answer for {engine.silent_s:.0f} seconds"
                for engine in self._needed()
                if engine.silent_s > self._ready_seconds
            ]
        return reasons

    def starting(self) -> list[str]:
        """How far the first models are; nothing once they are loaded, whatever comes after."""
        return [] if self._started.is_set() else [self._progress() or "no model is loaded"]

    def _needed(self) -> list[Engine]:
        """Engines of versions that can be asked, and are not on trial."""
        spared = self.on_trial()
        needed = {
            served.engine
            for versions in self._pool.versions.values()
            for served in versions.values()
            if (served.ref.name, served.ref.version) not in spared
        }
        return [engine for engine in self._pool.engines if engine in needed]

    def _progress(self) -> str:
        """How far loading is; empty where nothing is loaded."""
        loading = [state for state in self._pool.states() if state.state == "loading"]
        return ", ".join(f"{state.name}: {state.stage}" for state in loading)

    def _users(self, engine: Engine) -> str:
        names = [n for n, served in self._pool.models.items() if served.engine is engine]
        return ", ".join(names) or "a model"

    def _beat(self) -> None:
        every = self._ready_seconds / _PROBES
        while not self._ended.wait(every):
            for engine in self._pool.engines:
                engine.probe(every)
