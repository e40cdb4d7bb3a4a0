"""When work would be done if it were taken in now, and the refusal where that is too late.

Everything is known before any work: what the engines compute at the moment, what waits, what is
being tokenised, and what the new work holds. Pure: whoever calls holds the lock and tells the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from xlmr.errors import OverloadedError
from xlmr.serving.estimate import BatchSeconds, Delay
from xlmr.serving.scheduler import Scheduler

# Predictions are taken to be this much too short: what finishes late was computed for nothing.
_CAUTION = 1.15
# An engine that is late with its batch is expected to need this share of the delay once more.
_LATENESS = 0.5
# An idle engine that seems too slow is tried again after so many seconds: it may have been a pause
# of the whole machine that was measured.
_DOUBT_SECONDS = 5.0


class Load(msgspec.Struct, frozen=True):
    """What is to be computed; where texts are not tokenised yet, at least this.

    Attributes:
        tokens: of all texts.
        squares: the sum of their squared lengths.
        texts: how many; they may be spread over the engines.
    """

    tokens: float
    squares: float
    texts: int = 1

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Load:
        """The load of texts with so many tokens each."""
        return cls(sum(lengths), sum([length * length for length in lengths]), len(lengths))


class Forecast:
    """Predicts for one queue and the engines that serve it.

    `batch_seconds` is how long a batch should take at most.
    """

    def __init__(
        self,
        queue: Scheduler[Any],
        *,
        engines: int,
        budget: int,
        batch_seconds: float,
        measured: Sequence[tuple[int, int, float]] = (),
    ) -> None:
        self.batch = BatchSeconds(measured)
        self.delay = Delay()
        self._queue = queue
        self._engines = engines
        self._budget = budget
        self._batch_seconds = batch_seconds
        self._running: dict[int, tuple[float, float]] = {}
        self._coming_tokens = 0.0
        self._coming_squares = 0.0
        self._tried = float("-inf")

    @property
    def busy(self) -> bool:
        """Whether anything is computed, waits, or is about to come."""
        return bool(self._running) or len(self._queue) > 0 or self._coming_tokens >= 1.0

    def begun(self, engine: int, load: Load, now: float) -> None:
        """An engine has begun with a batch."""
        self._running[engine] = (now, self.batch.seconds(load.tokens, load.squares))

    def ended(self, engine: int, load: Load | None, seconds: float) -> None:
        """It has ended, after so many seconds; without a load nothing is learned from it."""
        self._running.pop(engine, None)
        if load is not None:
            self.batch.observe(int(load.tokens), int(load.squares), seconds)

    def expect(self, load: Load) -> None:
        """Work that was let in and is being tokenised counts as waiting from now on."""
        self._coming_tokens += load.tokens
        self._coming_squares += load.squares

    def expected(self, load: Load) -> None:
        """It has come, or will not."""
        self._coming_tokens -= load.tokens
        self._coming_squares -= load.squares

    def cleared_s(self, now: float) -> float:
        """In how many seconds everything that waits will be done."""
        return self._wait(self._queue.tokens, self._queue.squares, now)

    def check(
        self, load: Load, *, deadline: float | None, priority: int, now: float
    ) -> float | None:
        """Refuses work that would come too late, or would make others late that were let in.

        Returns:
            When it is predicted to be done; None where nobody asks. `delay` learns from it.

        Raises:
            OverloadedError: with the time in which the queue will have shrunk enough.
        """
        if deadline is None:
            return None
        done, late = self._lateness(load, deadline, priority, now)
        if late <= 0:
            return done
        idle = not self._running and not len(self._queue)
        if idle and deadline > now and now - self._tried > _DOUBT_SECONDS:
            self._tried = now
            return done
        raise OverloadedError(
            "the answer would come after its deadline",
            retry_after_s=late,
            hint="come back later, send less at once, or allow more time",
        )

    def _lateness(
        self, load: Load, deadline: float, priority: int, now: float
    ) -> tuple[float, float]:
        """When the work would be done, and by how much it, or what it holds up, would be late."""
        group = self._queue.class_of(priority, deadline, now)
        tokens, squares = self._queue.ahead(group)
        own = _CAUTION * self.batch.seconds(load.tokens, load.squares)
        own /= min(self._engines, max(1, load.texts))
        if self._running or len(self._queue):
            # It is done when its batch is, and others fill that up.
            own += self.batch.seconds(*self._full())
        done = now + _CAUTION * self._wait(tokens, squares, now) + own
        late = done + self.delay.seconds - deadline
        for waiting in self._queue.later(group):
            tokens, squares = tokens + waiting.tokens, squares + waiting.squares
            after = now + _CAUTION * self._wait(tokens, squares, now) + own - waiting.hard
            after += self.delay.seconds
            # What is late already is not made worse by anybody's refusal.
            if 0 < after <= own:
                late = max(late, after)
        return done, late

    def _wait(self, tokens: float, squares: float, now: float) -> float:
        """Seconds until so much of the queue is done, and what runs and what is coming."""
        tokens, squares = tokens + self._coming_tokens, squares + self._coming_squares
        seconds = self._seconds(tokens, squares)
        if self._queue.overdue(now):
            others = self._seconds(self._queue.tokens, self._queue.squares) - seconds
            seconds += min(max(0.0, others), seconds / 3)
        for started, expected in self._running.values():
            left = expected - (now - started)
            seconds += left if left >= 0 else -left * _LATENESS
        return seconds / self._engines

    def _seconds(self, tokens: float, squares: float) -> float:
        """Seconds of work that is cut into full batches."""
        return self.batch.seconds(tokens, squares, tokens / self._full()[0])

    def _full(self) -> tuple[float, float]:
        """Tokens and squares of a batch that holds as much as it may."""
        queue, (by_token, by_square, _) = self._queue, self.batch.coefficients
        length = queue.squares / queue.tokens if queue.tokens else 0.0
        pace = by_token + by_square * length
        most = min(float(self._budget), self._batch_seconds / pace) if pace else self._budget
        return max(1.0, most), max(1.0, most) * length
