"""The thread that tells the drift store what was seen here, weighs hours that are over, and reads
what all servers saw: the figures that metrics are asked for.

Without a store nothing is counted. One that is away costs nobody an answer, and no count as long as
there is room.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xlmr.drift.accuracy import Accuracies, accuracies
from xlmr.drift.bets import MIX
from xlmr.drift.detectors import Budget
from xlmr.drift.keeping import GRACE_S, HOUR_S, Counted, DriftStore, Watched, total
from xlmr.drift.label_free import Labelled
from xlmr.drift.reference import Reference
from xlmr.drift.signals import Signals
from xlmr.errors import FeedbackUnavailableError, XlmrError
from xlmr.serving.observing.labelled import labelled_by_language
from xlmr.serving.observing.sights import SightBook
from xlmr.telemetry.metrics import Metrics, bounded_language
from xlmr.telemetry.registry import OTHER

if TYPE_CHECKING:
    from xlmr.feedback.store import Store
    from xlmr.serving.pool import Pool
    from xlmr.settings import Settings

logger = logging.getLogger("xlmr.serving.drift")

# Well within the grace that hours are given.
_EVERY_S = 30.0
# They change slowly, and are read out of a day's counts.
_TURNS_TO_FIGURES = 10
_HOURS = 24
# Labels come late, and few of them.
_LABELLED_S = 30 * 24 * HOUR_S
_ALL = "all"

Released = tuple[str, str, Reference]
LabelledOf = Callable[[str, str, float], Mapping[str, Labelled]]


@dataclass(frozen=True, slots=True)
class Figures:
    """What metrics are asked for, by their labels.

    Attributes:
        levels: (model, version, language, signal) → how far to an alarm, 0 to 1.
        alarms: (model, version, language, kind) → how many are open.
        accuracy: (model, version, language, source, end) → 0 to 1.
    """

    levels: dict[tuple[str, ...], float] = field(default_factory=dict)
    alarms: dict[tuple[str, ...], float] = field(default_factory=dict)
    accuracy: dict[tuple[str, ...], float] = field(default_factory=dict)


class Watching:
    """Keeps the drift store and this server's book at one.

    Attributes:
        book: what this server saw since.
        figures: as they were when last read.
    """

    def __init__(
        self,
        book: SightBook,
        *,
        open_store: Callable[[], DriftStore],
        released: Callable[[], Iterable[Released]],
        budget: Budget,
        labelled_of: LabelledOf = lambda model, version, since_s: {},
        clock: Callable[[], float] = time.time,
        every_s: float = _EVERY_S,
    ) -> None:
        """Starts the thread.

        Args:
            book: of this server.
            open_store: opens the store; tried again while it is away.
            released: versions that are served, and what they are held against.
            budget: of false alarms.
            labelled_of: answers of a model's version since a time whose truth is known.
            clock: the time of day, in seconds since 1970 UTC.
            every_s: how often it looks.
        """
        self.book = book
        self.figures = Figures()
        self._open_store = open_store
        self._released = released
        self._budget = budget
        self._labelled_of = labelled_of
        self._clock = clock
        self._every_s = every_s
        self._store: DriftStore | None = None
        self._server, self._sequence = uuid.uuid4().hex, 0
        self._batch: list[Counted] = []
        self._began = clock()
        self._weighed: dict[tuple[str, str], int] = {}
        self._quiet = False
        self._one_turn = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._live, name="xlmr-drift", daemon=True)
        self._thread.start()

    def turn(self, *, read: bool = True) -> None:
        """Does once what the thread does again and again; never raises.

        Args:
            read: the figures as well, which takes longer than all the rest.
        """
        with self._one_turn:
            try:
                if self._store is None:
                    self._store = self._open_store()
                self._tell(self._store)
                self._weigh(self._store)
                if read:
                    self.figures = self._read(self._store)
                self._quiet = False
            except XlmrError as fault:
                if not self._quiet:
                    logger.warning("drift: %s; counts wait in memory", fault.message)
                self._quiet = True

    def behind(self) -> float:
        """Hours that are over, all grace included, and that nobody has weighed as yet."""
        over = _over(self._clock())
        least = _over(self._began)
        weighed = [
            self._weighed.get((model, version), least) for model, version, _ in self._released()
        ]
        return float(max((over - hour for hour in weighed), default=0))

    def close(self, timeout_s: float = 5.0) -> None:
        """Tells what was seen, for at most so long, and ends. Calling it twice is harmless."""
        self._closing.set()
        self._thread.join(timeout_s)

    def _live(self) -> None:
        for turns in itertools.count():
            self.turn(read=turns % _TURNS_TO_FIGURES == 0)
            if self._closing.is_set():
                break
            self._closing.wait(self._every_s)
        if self._store is not None:
            self._store.close()

    def _tell(self, store: DriftStore) -> None:
        """A batch that may or may not have arrived is sent again as it was, before the next."""
        self._send(store)
        self._batch = self.book.drain()
        self._sequence += 1
        self._send(store)

    def _send(self, store: DriftStore) -> None:
        if self._batch:
            store.add(self._server, self._sequence, self._batch, now_s=self._clock())
        self._batch = []

    def _weigh(self, store: DriftStore) -> None:
        for model, version, reference in self._released():
            now_s = self._clock()
            while store.step(model, version, reference, now_s=now_s, budget=self._budget):
                pass
            self._weighed[model, version] = _over(now_s)

    def _read(self, store: DriftStore) -> Figures:
        figures = Figures()
        now = int(self._clock()) // HOUR_S
        for model, version, reference in self._released():
            watched = Watched(model, version, reference.task)
            state = store.state(watched)
            for name, levels in ({} if state is None else state.levels).items():
                language = _ALL if name == MIX else bounded_language(name)
                for signal, level in levels.items():
                    _raise(figures.levels, (model, version, language, signal), level)
            for _, alarm in store.alarms(watched):
                key = (model, version, bounded_language(alarm.language), alarm.kind)
                if alarm.open_at(now):
                    figures.alarms[key] = figures.alarms.get(key, 0.0) + 1.0
            hours = store.hours(watched, reference.labels, now - _HOURS, now + 1)
            signals = total(hours, Signals(version, reference.task, reference.labels))
            labelled = self._labelled_of(model, version, self._clock() - _LABELLED_S)
            for name, found in accuracies(reference, signals, labelled).items():
                language = bounded_language(name)
                if language != OTHER:
                    figures.accuracy.update(_accuracy((model, version, language), found))
        return figures


def watch_drift(metrics: Metrics, watching: Watching) -> None:
    """Has the gauges ask for the figures."""
    metrics.watch_drift(
        {
            "xlmr_drift_level_ratio": lambda: watching.figures.levels,
            "xlmr_drift_alarms": lambda: watching.figures.alarms,
            "xlmr_drift_accuracy_ratio": lambda: watching.figures.accuracy,
            "xlmr_drift_hours_behind": watching.behind,
        }
    )


def start_watching(
    settings: Settings, pool: Pool, metrics: Metrics, *, feedback: Callable[[], Store] | None
) -> Watching:
    """Begins to count, tell and weigh.

    Args:
        settings: where the drift store is, and the budget.
        pool: what is served.
        metrics: asked for the figures.
        feedback: where labels are; None where nowhere.

    Raises:
        SettingsError: the drift store's URL is none of a database.
        MissingExtraError: what it needs is not installed.
    """
    url = settings.drift or settings.feedback

    def reference_of(model: str, version: str) -> Reference | None:
        served = pool.versions.get(model, {}).get(version)
        return None if served is None else served.reference

    def released() -> list[Released]:
        return [
            (served.ref.name, served.ref.version, served.reference)
            for versions in pool.versions.values()
            for served in versions.values()
            if served.reference is not None
        ]

    try:
        DriftStore(url).close()
    except FeedbackUnavailableError as fault:
        logger.warning("drift: %s; counts wait in memory", fault.message)
    watching = Watching(
        SightBook(reference_of, on_lost=metrics.drift_lost),
        open_store=lambda: DriftStore(url),
        released=released,
        budget=Budget(alarms_a_month=settings.drift_alarms),
        labelled_of=_labelled_of(feedback),
    )
    watch_drift(metrics, watching)
    return watching


def _labelled_of(feedback: Callable[[], Store] | None) -> LabelledOf:
    """Reads the feedback store, where there is one."""

    def found(model: str, version: str, since_s: float) -> dict[str, Labelled]:
        if feedback is None:
            return {}
        since_us = round(since_s * 1e6)
        return labelled_by_language(feedback(), model=model, version=version, since_us=since_us)

    return found


def _over(now_s: float) -> int:
    """The last hour that is over, all grace included."""
    return int(now_s - GRACE_S) // HOUR_S - 1


def _raise(levels: dict[tuple[str, ...], float], key: tuple[str, ...], level: float) -> None:
    levels[key] = max(level, levels.get(key, 0.0))


def _accuracy(key: tuple[str, ...], found: Accuracies) -> dict[tuple[str, ...], float]:
    sources = {
        "release": found.release,
        "estimated": found.estimated,
        "labelled": found.labelled,
    }
    return {
        (*key, source, end): getattr(accuracy, end)
        for source, accuracy in sources.items()
        if accuracy is not None
        for end in ("share", "low", "high")
    }
