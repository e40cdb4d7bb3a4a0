"""What this server saw of its answers since it last told the drift store: counts, in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from xlmr.drift.keeping import HOUR_S, Counted
from xlmr.drift.reference import Reference
from xlmr.drift.signals import MOST_LABELS, Sight, Signals

# Counts of one language in one hour take some three kilobytes: 30 languages of one version fill
# this in eleven days.
_MOST_SKETCHES = 8192
_Place = tuple[str, str, str, int]


class SightBook:
    """Counts by model, version, task and hour. Safe to use from several threads.

    Args:
        reference_of: what a model's version is held against; its labels are those told apart.
        on_lost: told that a sight found no room: the store has been away for very long.
        clock: the time of day, in seconds since 1970 UTC.
        most_sketches: languages in hours that are held at most.
    """

    def __init__(
        self,
        reference_of: Callable[[str, str], Reference | None],
        *,
        on_lost: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
        most_sketches: int = _MOST_SKETCHES,
    ) -> None:
        self._reference_of = reference_of
        self._on_lost = on_lost
        self._clock = clock
        self._most = most_sketches
        self._sketches = 0
        self._lock = threading.Lock()
        self._seen: dict[_Place, Signals] = {}

    def see(
        self,
        model: str,
        version: str,
        task: str,
        labels: Sequence[str],
        language: str,
        sight: Sight,
    ) -> None:
        """Counts one answered text; some microseconds, never a wait for anybody.

        Args:
            model: that answered.
            version: of it.
            task: what was asked.
            labels: those that the model promises; none where they are the caller's words.
            language: of the text.
            sight: what is counted.
        """
        place = (model, version, task, int(self._clock()) // HOUR_S)
        with self._lock:
            signals = self._seen.get(place)
            if signals is None:
                signals = Signals(version, task, self._told_apart(model, version, task, labels))
            before = len(signals.languages)
            if self._sketches < self._most or language in signals.languages:
                signals.see(language, sight)
                self._seen[place] = signals
                self._sketches += len(signals.languages) - before
                return
        self._on_lost()

    def drain(self) -> list[Counted]:
        """Hands over what was counted; the book is empty then."""
        with self._lock:
            seen, self._seen, self._sketches = self._seen, {}, 0
        return [Counted(model, hour, signals) for (model, *_, hour), signals in seen.items()]

    def _told_apart(
        self, model: str, version: str, task: str, labels: Sequence[str]
    ) -> tuple[str, ...]:
        reference = self._reference_of(model, version)
        if reference is not None and reference.task == task:
            return reference.labels
        return tuple(sorted(set(labels)))[:MOST_LABELS]
