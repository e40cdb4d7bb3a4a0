"""The loaded models, which change while they serve.

Whoever asks for a model takes it and gives it back; between the two it stays, whatever becomes of
its name. Names, versions and aliases are one immutable value, `Routes`, replaced whole. A version
is loaded and proven beside those that serve, and only then gets a route; one that is unloaded loses
its routes first and its engine when its last request is over. What fails leaves all as it was.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xlmr.errors import (
    ModelConflictError,
    ModelNotFoundError,
    TaskError,
    UnavailableError,
    XlmrError,
)
from xlmr.model.bundle import Bundle, open_bundle
from xlmr.serving.beside import in_thread
from xlmr.serving.engines import Engine, Engines, RuntimeOf, open_engine, warm_runtime
from xlmr.serving.gauges import watch_pool
from xlmr.serving.proof import proven
from xlmr.serving.tidy import tidy_soon
from xlmr.serving.trust import open_trust
from xlmr.serving.versions import (
    Entry,
    ModelState,
    Order,
    Routes,
    Versions,
    could_be_loading,
    foreign_order,
    read_places,
    state_of,
    version_of,
)
from xlmr.serving.versions import Served as Served
from xlmr.serving.vitals import Vitals

if TYPE_CHECKING:
    from xlmr.settings import Settings
    from xlmr.telemetry.metrics import Metrics

logger = logging.getLogger("xlmr.serving.pool")

# How many failures are still shown.
_FAILURES = 16
_LOADING_RETRY_S = 2.0


class Pool:
    """The models of a server. Every method may be called from any thread.

    Loading blocks, as long as it takes; who must not be blocked can `begin` it.

    Attributes:
        vitals: whether the engines live and answer.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, *, runtime_of: RuntimeOf = warm_runtime
    ) -> None:
        self._settings = settings
        self._precision = "fp32" if settings.runtime == "reference" else settings.precision
        self._metrics = metrics
        self._trust = open_trust(settings)
        self._engines = Engines(
            lambda bundle: open_engine(bundle, settings, metrics, runtime_of=runtime_of)
        )
        self._lock = threading.Lock()
        self._one_load = threading.Lock()
        self._routes = Routes({}, {})
        self._entries: list[Entry] = []
        self._closed = False
        self.vitals = Vitals(self, ready_seconds=settings.ready_seconds)
        watch_pool(metrics, self)

    @property
    def models(self) -> dict[str, Served]:
        """What each bare name leads to. Not to be kept: take a model to keep it."""
        return self._routes.models

    @property
    def versions(self) -> Versions:
        """Every version that can be asked, by name, then by version."""
        return self._routes.versions

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The encoders at work."""
        return self._engines.all()

    @property
    def waiting_tokens(self) -> int:
        """Tokens in all queues."""
        return sum(engine.batcher.waiting_tokens for engine in self.engines)

    @property
    def loading(self) -> bool:
        """Whether a model is being loaded, or waits to be."""
        with self._lock:
            return any(entry.state == "loading" for entry in self._entries)

    def route(self, name: str | None, task: str | None) -> Served:
        """The model that would answer; to ask it, `take` it.

        Args:
            name: `name`, `name@version` or `name@alias`; None for the only model that can.
            task: what it must be able to do; None for anything.

        Raises:
            ModelNotFoundError: none of that name.
            TaskError: it cannot do the task, or no model can.
            InputError: no name, and several could.
            UnavailableError: it is being loaded.
        """
        try:
            return self._routes.route(name, task)
        except (ModelNotFoundError, TaskError):
            with self._lock:
                awaited = could_be_loading(self._entries, self._routes, name)
            if awaited:
                raise UnavailableError(
                    "the model is being loaded",
                    reason="loading",
                    retry_after_s=_LOADING_RETRY_S,
                    hint="GET /v1/models shows how far it is",
                ) from None
            raise

    def take(self, name: str | None, task: str | None) -> Served:
        """As `route`; the model stays until it is given back, once for each time it was taken.

        Raises:
            XlmrError: as `route`.
        """
        while True:
            served = self.route(name, task)
            with self._lock:
                if served.entry.state == "ready":
                    served.entry.holders += 1
                    return served

    def give_back(self, served: Served) -> None:
        """The request that took the model is over."""
        with self._lock:
            entry = served.entry
            entry.holders -= 1
            last = entry.state == "draining" and entry.holders == 0
        if last:
            self._let_go(served)

    def load(self, order: Order) -> Served:
        """Opens, proves and serves a model; gives the one that is there if it is the same.

        Raises:
            ModelError: the directory cannot be used, or does not keep its promises.
            ModelConflictError: another model has that name and version.
            UnavailableError: the server is going down.
        """
        return self._load(self._enter(order))

    def begin(self, order: Order) -> tuple[ModelState, Future[Served]]:
        """As `load`, for orders that come from outside, and beside the caller.

        Nothing but what lies below the models directory can be opened by it. What it gives first
        shows the model among the others.

        Raises:
            ForbiddenError: there is no models directory.
            InputError: a name, version or alias that cannot be one.
            ModelNotFoundError: no such directory there.
            UnavailableError: the server is going down.
        """
        entry = self._enter(foreign_order(order, root=self._settings.models_dir))
        state = state_of(self._routes, entry)
        return state, in_thread(lambda: self._load(entry))

    def load_all(self, orders: Sequence[Order]) -> None:
        """Loads the first models, in order; those that wait are shown as loading meanwhile.

        Raises:
            XlmrError: as `load`, for the first that fails; the rest is not tried.
        """
        entries = [self._enter(order) for order in orders]
        for done, entry in enumerate(entries):
            try:
                self._load(entry)
            except XlmrError:
                with self._lock:
                    for left in entries[done + 1 :]:
                        self._entries.remove(left)
                raise
        self.vitals.started()

    def unload(self, name: str, version: str) -> ModelState:
        """Takes a version's routes away; it goes when its last request is over.

        What failed to load is only forgotten.

        Raises:
            ModelNotFoundError: no such version.
            ModelConflictError: an alias points to it, or it is still being loaded.
        """
        with self._lock:
            served = self._routes.find(name, version)
            if served is None:
                return self._forget_failure(name, version)
            self._routes = self._routes.without_version(served)
            served.entry.state = "draining"
            state = state_of(self._routes, served.entry)
            idle = served.entry.holders == 0
        if idle:
            self._let_go(served)
        logger.info("unloaded %s@%s", name, version)
        return state

    def point(self, name: str, alias: str, version: str) -> ModelState:
        """Has an alias lead to a version, from the next request on.

        Raises:
            InputError: not the name of an alias.
            ModelNotFoundError: no such version.
            ModelConflictError: the alias is the name of a version.
        """
        with self._lock:
            self._routes = self._routes.with_alias(name, alias, version)
            return state_of(self._routes, self._routes.versions[name][version].entry)

    def drop_alias(self, name: str, alias: str) -> ModelState:
        """Forgets an alias; gives the version it led to.

        Raises:
            ModelNotFoundError: there is none.
        """
        with self._lock:
            version = self._routes.aliases.get(name, {}).get(alias, "")
            self._routes = self._routes.without_alias(name, alias)
            return state_of(self._routes, self._routes.versions[name][version].entry)

    def states(self) -> list[ModelState]:
        """Every version there is: loading, ready, draining, and the last that failed."""
        with self._lock:
            return [state_of(self._routes, entry) for entry in self._entries]

    def state_of(self, name: str) -> ModelState:
        """The version that `name`, `name@version` or `name@alias` stands for.

        Raises:
            ModelNotFoundError: none.
        """
        with self._lock:
            try:
                return state_of(self._routes, self._routes.route(name, None).entry)
            except ModelNotFoundError:
                bare, _, version = name.partition("@")
                for entry in reversed(self._entries):
                    if entry.order.name == bare and version in ("", entry.version):
                        return state_of(self._routes, entry)
                raise

    def close(self, *, within_s: float | None = None) -> bool:
        """Finishes what is queued, then gives threads, processes and memory back.

        Whether that was done in time: an engine that hangs cannot be closed. None waits for it.
        """
        self.vitals.stop()
        with self._lock:
            self._closed = True
            self._routes = Routes({}, {})
            self._entries = [entry for entry in self._entries if entry.state == "loading"]
        return self._engines.close(within_s=within_s)

    def _enter(self, order: Order) -> Entry:
        """A loading entry for everybody to see, in the place of one that failed."""
        entry = Entry(order, order.version)
        with self._lock:
            if self._closed:
                raise UnavailableError("the server is going down", reason="draining")
            failed = [old for old in self._entries if old.state == "failed"]
            again = [old for old in failed if old.order.name == order.name]
            again = [old for old in again if old.order.version == order.version]
            for old in again or failed[: max(0, len(failed) + 1 - _FAILURES)]:
                self._entries.remove(old)
            self._entries.append(entry)
        return entry

    def _load(self, entry: Entry) -> Served:
        with self._failing(entry), self._one_load:
            order = entry.order
            if order.bring is not None:
                self._stage(entry, "pulling")
                order.bring()
            self._stage(entry, "verifying")
            checked = self._trust.check(order.directory, tree=order.tree)
            self._stage(entry, "reading")
            bundle = open_bundle(order.directory, cache_dir=self._settings.cache_dir)
            version = version_of(order, bundle.digest)
            with self._lock:
                there = self._routes.find(order.name, version)
                entry.version = version
                self._routes.check_order(order, version)
            if there is not None:
                return self._again(entry, there, bundle)
            with self._engines.held(bundle, lambda: self._stage(entry, "preparing")) as engine:
                self._stage(entry, "proving")
                served = proven(entry, bundle, engine, precision=self._precision, checked=checked)
                self._publish(served)
        tidy_soon()
        logger.info("%s@%s is ready", served.ref.name, served.ref.version)
        return served

    def _again(self, entry: Entry, there: Served, bundle: Bundle) -> Served:
        """The same model a second time: it gets its aliases, and that is all."""
        name, version = there.ref.name, there.ref.version
        if there.ref.digest != bundle.digest or entry.order.digest not in ("", bundle.digest):
            raise ModelConflictError(
                f"{name}@{version} is loaded already, with other content",
                hint="give it another version",
            )
        with self._lock:
            for alias in entry.order.aliases:
                self._routes = self._routes.with_alias(name, alias, version)
            self._entries.remove(entry)
        return there

    def _publish(self, served: Served) -> None:
        with self._lock:
            if self._closed:
                raise UnavailableError("the server is going down", reason="draining")
            self._routes = self._routes.with_version(served, served.entry.order.aliases)
            served.entry.state = "ready"
            served.entry.served = served

    @contextmanager
    def _failing(self, entry: Entry) -> Iterator[None]:
        """Notes why an entry failed, whatever the fault."""
        reason = "the server failed; its log tells more"
        try:
            yield
        except XlmrError as fault:
            reason = str(fault)
            raise
        finally:
            with self._lock:
                if entry.state == "loading" and entry in self._entries:
                    entry.state, entry.stage, entry.reason = "failed", "", reason

    def _let_go(self, served: Served) -> None:
        """A drained version leaves; its engine too, if it was the last one there."""
        with self._lock:
            if served.entry in self._entries:
                self._entries.remove(served.entry)
        self._metrics.forget(served.ref.name, served.ref.version)
        self._engines.release(served.engine)
        tidy_soon()

    def _stage(self, entry: Entry, stage: str) -> None:
        with self._lock:
            entry.stage = stage

    def _forget_failure(self, name: str, version: str) -> ModelState:
        for entry in self._entries:
            if (entry.order.name, entry.version) != (name, version) or entry.state == "draining":
                continue
            if entry.state == "loading":
                raise ModelConflictError(f"{name}@{version} is being loaded", hint="wait for it")
            self._entries.remove(entry)
            return state_of(self._routes, entry)
        raise ModelNotFoundError(f"no version {version} of {name}", hint="GET /v1/models")


def open_pool(
    places: Sequence[str],
    settings: Settings,
    metrics: Metrics,
    *,
    runtime_of: RuntimeOf = warm_runtime,
) -> Pool:
    """A pool with models loaded: directories, given as `DIR`, `NAME=DIR` or `NAME@VERSION=DIR`.

    Raises:
        SettingsError: two models of one name and version.
        ModelError: a directory cannot be used.
    """
    orders = read_places(places)
    pool = Pool(settings, metrics, runtime_of=runtime_of)
    try:
        pool.load_all(orders)
    except BaseException:
        pool.close()
        raise
    return pool
