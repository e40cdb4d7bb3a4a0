"""What looks back at answers, as the settings say: nothing, unless a store is named."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xlmr.errors import FeedbackUnavailableError
from xlmr.serving.observing.observer import Observer, Told

if TYPE_CHECKING:
    from xlmr.feedback.record import Record
    from xlmr.feedback.store import Store
    from xlmr.feedback.writer import Writer
    from xlmr.serving.observing.desk import Desk
    from xlmr.serving.observing.disagreeing import Disagreeing
    from xlmr.serving.observing.watching import Watching
    from xlmr.serving.pool import Pool
    from xlmr.settings import Settings
    from xlmr.telemetry.metrics import Metrics

logger = logging.getLogger("xlmr.serving.observing")

_CLOSING_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Observing:
    """What a data plane tells of answers, and where it hands feedback; None where it is off."""

    observer: Observer | None = None
    desk: Desk | None = None
    writer: Writer | None = None
    store: LateStore | None = None
    watching: Watching | None = None
    disagreeing: Disagreeing | None = None

    def close(self, timeout_s: float = _CLOSING_SECONDS) -> None:
        """Writes what waits, for at most so long, and lets the store go."""
        if self.observer is not None:
            self.observer.close(timeout_s / 2)
        if self.writer is not None:
            self.writer.close(timeout_s / 2)
            if self.writer.waiting:
                logger.warning("%d records were not written", self.writer.waiting)
        if self.disagreeing is not None:
            self.disagreeing.close(timeout_s / 2)
        if self.watching is not None:
            self.watching.close(timeout_s / 2)
        if self.store is not None:
            self.store.close()


class LateStore:
    """The feedback store, opened when it is there: one that is away keeps nobody from answering."""

    def __init__(self, open: Callable[[], Store]) -> None:
        self._open = open
        self._lock = threading.Lock()
        self._store: Store | None = None

    def __call__(self) -> Store:
        """The store.

        Raises:
            FeedbackUnavailableError: it cannot be reached; asked again, it is tried again.
        """
        with self._lock:
            if self._store is None:
                self._store = self._open()
            return self._store

    def add(self, records: Sequence[Record]) -> None:
        """As the store does."""
        self().add(records)

    def close(self) -> None:
        """Closes its connections."""
        with self._lock:
            if self._store is not None:
                self._store.close()


def open_observing(settings: Settings, metrics: Metrics, pool: Pool) -> Observing:
    """Starts what the settings ask for; of the pool's versions is known what they are watched by.

    Raises:
        SettingsError: the store's URL, the policy or the key cannot be used.
        MissingExtraError: a store is named, and what it needs is not installed.
    """
    takers: list[Callable[[Told], None]] = []
    desk, writer, store, watching, disagreeing = None, None, None, None, None
    if settings.feedback:
        from xlmr.feedback.opening import open_hasher, open_policy, open_redactor, open_store
        from xlmr.feedback.policy import Keeper
        from xlmr.feedback.writer import Writer
        from xlmr.serving.observing.desk import Desk
        from xlmr.serving.observing.disagreeing import Disagreeing
        from xlmr.serving.observing.records import recording
        from xlmr.serving.observing.thrift import Thrifty

        hasher, policy = open_hasher(settings), open_policy(settings)
        keeper = Thrifty(
            Keeper(policy, open_redactor(settings, policy)), on_drop=metrics.feedback_text_dropped
        )
        store = LateStore(lambda: open_store(settings))
        try:
            store()
        except FeedbackUnavailableError as fault:
            logger.warning("%s; what is answered until it is there is not kept", fault.message)
        writer = Writer(
            store, keeper, on_keep=metrics.feedback_kept, on_drop=metrics.feedback_dropped
        )
        metrics.watch_feedback(lambda: writer.waiting)
        desk = Desk(store, hasher, metrics=metrics)
        disagreeing = Disagreeing(store)
        takers.append(recording(writer.put, hasher=hasher, policy=policy))
    if settings.drift or settings.feedback:
        from xlmr.serving.observing.records import seeing
        from xlmr.serving.observing.watching import start_watching

        watching = start_watching(settings, pool, metrics, feedback=store)
        takers.append(seeing(watching.book))
    if not takers:
        return Observing()
    observer = Observer(
        takers, on_drop=lambda texts: metrics.feedback_dropped(texts, "observer_full")
    )
    return Observing(observer, desk, writer, store, watching, disagreeing)
