"""Where feedback is taken: acknowledged once it is on disk, written beside the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xlmr.errors import FeedbackUnavailableError, InputError, UnavailableError
from xlmr.feedback.labels import Feedback, check
from xlmr.feedback.labels import Source as Source
from xlmr.serving.beside import in_thread
from xlmr.serving.preparation import moved

if TYPE_CHECKING:
    from xlmr.feedback.record import Hasher
    from xlmr.feedback.store import Store
    from xlmr.telemetry.metrics import Metrics

logger = logging.getLogger("xlmr.serving.observing")

# Each waits for the database in a thread of its own, with a connection of the store's pool, which
# holds 15; records need one too.
_MOST_AT_ONCE = 8
# Clocks differ; a statement from the future would be the last word for as long.
_AHEAD_US = 300 * 1_000_000
_RETRY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What somebody says of a prediction, as it came.

    Attributes:
        prediction: its id.
        label: the right one.
        who: says so, by whatever name; empty for nobody in particular.
        said_us: when, in microseconds since 1970 UTC; 0 for now.
    """

    prediction: str
    label: str
    who: str = ""
    source: Source = "user"
    said_us: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of statements: the fault of each, None where it is kept; how many were new."""

    faults: tuple[InputError | None, ...]
    new: int


class Desk:
    """Takes feedback. Bound to one event loop."""

    def __init__(
        self,
        store: Callable[[], Store],
        hasher: Hasher,
        *,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`store` gives the store, or raises FeedbackUnavailableError; asked beside the loop."""
        self._store = store
        self._hasher = hasher
        self._metrics = metrics
        self._clock = clock
        self._writing = 0

    async def keep(self, said: Sequence[Statement]) -> Taken:
        """Keeps what can be kept; it is on disk when this returns.

        Raises:
            InputError: none of it can; its path is that of the first, `$[0].label`.
            FeedbackUnavailableError: the store cannot be written; nothing was kept.
            UnavailableError: too much is being written.
        """
        faults = [self._fault(statement, place) for place, statement in enumerate(said)]
        good = [one for one, fault in zip(said, faults, strict=True) if fault is None]
        if not good:
            raise next(fault for fault in faults if fault is not None)
        if self._writing >= _MOST_AT_ONCE:
            raise UnavailableError("too much feedback is being written", retry_after_s=1.0)
        feedback = [self._feedback(statement) for statement in good]
        self._writing += 1
        try:
            writing = in_thread(lambda: self._store().add_feedback(feedback))
            new = await asyncio.wrap_future(writing)
        except FeedbackUnavailableError as fault:
            # Its words name the database, which is none of a client's business.
            logger.warning("feedback was not kept: %s", fault.message)
            raise FeedbackUnavailableError(
                "the feedback store cannot be written just now; nothing was kept",
                retry_after_s=_RETRY_S,
                hint="send it again later: what was kept before is not kept twice",
            ) from None
        finally:
            self._writing -= 1
        for source, count in Counter(statement.source for statement in good).items():
            self._metrics.feedback(count, source)
        return Taken(tuple(faults), new)

    def _fault(self, said: Statement, place: int) -> InputError | None:
        try:
            check(replace(self._feedback(said), said_us=0))
            if not 0 <= said.said_us <= self._clock() * 1e6 + _AHEAD_US:
                raise InputError("expected a time since 1970 that has passed", path="$.said_at")
        except InputError as fault:
            return moved(fault, f"$[{place}]{fault.path[1:]}")
        return None

    def _feedback(self, said: Statement) -> Feedback:
        return Feedback(
            prediction=said.prediction,
            label=said.label,
            who=self._hasher.person(said.who) if said.who else "",
            source=said.source,
            said_us=said.said_us,
        )
