"""Answered questions on their way to whoever looks back at them: records, and what drift counts.

On the path of requests one small value is queued. A thread of its own takes it apart; what it is
too slow for is dropped and counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from xlmr.serving.preparation import size_of
from xlmr.serving.tokens import DetokenizeOptions, TokenizeOptions
from xlmr.telemetry.outbox import Outbox

if TYPE_CHECKING:
    from xlmr.serving.question import Answered, Question
    from xlmr.serving.recording import Life
    from xlmr.serving.versions import Served

_MOST_WAITING = 10_000
# What waits keeps its texts and vectors; a text counts as its characters and this.
_MOST_WAITING_CHARS = 32 * 1024 * 1024
_CHARS_OF_AN_ANSWER = 2_000
_GATHERING_SECONDS = 0.1


class Told(NamedTuple):
    """A question that was answered.

    Attributes:
        served: the model; of an ensemble, one that answered.
        at: when, in seconds since 1970 UTC.
        seconds: from its first byte to its answer.
    """

    question: Question
    answered: Answered
    served: Served
    at: float
    seconds: float


class Observer:
    """Hands what was answered to those who look back. `tell` belongs to the event loop."""

    def __init__(
        self,
        takers: Sequence[Callable[[Told], None]],
        *,
        on_drop: Callable[[int], None] = lambda texts: None,
        clock: Callable[[], float] = time.time,
        most_waiting: int = _MOST_WAITING,
        most_waiting_chars: int = _MOST_WAITING_CHARS,
    ) -> None:
        """Starts the thread.

        Args:
            takers: called by the thread with each question, in order; must not raise.
            on_drop: told how many texts were dropped.
            clock: the time of day.
            most_waiting: questions beyond it are dropped.
            most_waiting_chars: and beyond so many characters.
        """
        self._takers = tuple(takers)
        self._on_drop = on_drop
        self._clock = clock
        self._most_chars = most_waiting_chars
        # Each is changed by one thread alone: their difference waits.
        self._told_chars = self._taken_chars = 0
        self._outbox: Outbox[tuple[Told, int]] = Outbox(
            self._take,
            name="xlmr-observer",
            most_waiting=most_waiting,
            gathering_s=_GATHERING_SECONDS,
        )

    def tell(self, life: Life, seconds: float) -> None:
        """Queues a question that was answered; never waits. Where none was, nothing happens."""
        question, answered, served = life.question, life.answered, life.served
        if answered is None or served is None:
            return
        if isinstance(question.options, TokenizeOptions | DetokenizeOptions):
            return
        items = question.items
        size = sum(map(size_of, items)) + _CHARS_OF_AN_ANSWER * len(items)
        told = Told(question, answered, served, self._clock(), seconds)
        room = self._told_chars - self._taken_chars + size <= self._most_chars
        if room and self._outbox.put((told, size)):
            self._told_chars += size
        else:
            self._on_drop(len(items))

    def flush(self, timeout_s: float = 2.0) -> None:
        """Waits until what was told before was taken, at most so long."""
        self._outbox.flush(timeout_s)

    def close(self, timeout_s: float = 2.0) -> None:
        """Takes what waits, for at most so long, and ends. Calling it twice is harmless."""
        self._outbox.close(timeout_s)

    def _take(self, waiting: list[tuple[Told, int]]) -> None:
        for told, size in waiting:
            for take in self._takers:
                take(told)
            self._taken_chars += size
