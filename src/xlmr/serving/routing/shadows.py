"""Requests that another version reads as well, after their answer is on its way. Nobody waits.

A copy is read only while no engine has anything to do, one at a time, and in the share of time that
the rollout allows. It gives way to whoever comes meanwhile: its batch ends before the next layer,
and it is read again in another such moment. What finds none within seconds is dropped and counted
as that. It asks no cache and is charged to nobody. Both versions are counted where both read, never
one alone; a copy that gave way after its objective had passed was too slow, and is counted so, or
the slowest versions would never be seen.

How long a version took is compared without the queue, and not where the answer was known before:
copies wait for idle moments, and no cache knows them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xlmr.errors import DeadlineError, InputError, UnavailableError, XlmrError
from xlmr.registry.rollout.evidence import CANDIDATE, LIVE
from xlmr.serving.computing import Computing
from xlmr.serving.preparation import reading_size
from xlmr.serving.question import Outcome, prediction_id
from xlmr.serving.recording import Life
from xlmr.serving.routing.agreement import agree
from xlmr.serving.routing.seen import fault_events, seen_of
from xlmr.types import Language

if TYPE_CHECKING:
    from xlmr.registry.rollout.routing import Counting
    from xlmr.serving.batcher import Batcher
    from xlmr.serving.cache import Found
    from xlmr.serving.pool import Pool
    from xlmr.serving.question import Question
    from xlmr.serving.routing.seen import Identify
    from xlmr.serving.routing.tally import Tally
    from xlmr.telemetry.metrics import Metrics

logger = logging.getLogger("xlmr.serving.routing")

# After everyone's.
PRIORITY = 3
# What may wait: copies, and characters of all of them.
_MOST_WAITING = 64
_MOST_CHARS = 1_000_000
_PATIENCE_S = 5.0
# Between two looks whether the engines are idle, or the share has grown again.
_PAUSE_S = 0.02
# Unused time is saved up for so many seconds.
_SAVED_S = 1.0
# What became of the request in other places.
_UNREAD = InputError("")


@dataclass(frozen=True, slots=True)
class Copy:
    """A request that was answered, and is to be read once more.

    Attributes:
        place: what the version is called in the pool.
        outcomes: of the live version; none where it failed.
        events: of the live version.
        seconds: what the live version worked; None where that is no measure.
    """

    question: Question
    place: str
    counting: Counting
    outcomes: Sequence[Outcome]
    events: tuple[str, ...]
    seconds: float | None


class Share:
    """Time that may be used: a share of all that passes, saved up for a while. Pure.

    What is used beyond it has to be made up for before there is any again.
    """

    def __init__(self, now: float) -> None:
        self._at = now
        self._left_s: float | None = None

    def left_s(self, share: float, now: float) -> float:
        """Seconds that may be used; negative while more was used than allowed."""
        most = share * _SAVED_S
        if self._left_s is None:
            self._left_s = most
        passed, self._at = max(0.0, now - self._at), now
        self._left_s = min(most, self._left_s + passed * share)
        return self._left_s

    def use(self, seconds: float) -> None:
        """So much was used."""
        self._left_s = (self._left_s or 0.0) - seconds


class Shadows:
    """The lane of copies. Bound to the event loop it is first offered one on.

    Where the versions disagree, `on_disagree` is told the prediction's id, the version that read it
    and its label; it must neither wait nor raise.
    """

    def __init__(
        self,
        pool: Pool,
        tally: Tally,
        *,
        metrics: Metrics,
        identify: Identify,
        max_tokens: int = 0,
        on_disagree: Callable[[str, str, str], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._pool = pool
        self._tally = tally
        self._metrics = metrics
        self._identify = identify
        self._on_disagree = on_disagree
        self._clock = clock
        self._sleep = sleep
        # Its own, so that it takes nobody's threads and nobody's room for texts.
        self._computing = Computing(_unknown_languages, max_tokens=max_tokens)
        self._share = Share(clock())
        self._waiting: deque[tuple[float, Copy]] = deque()
        self._chars = 0
        self._task: asyncio.Task[None] | None = None
        self._reading: tuple[asyncio.Task[Mapping[int, Found]], Batcher] | None = None
        self._stopped = False

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is read."""
        return self._task is None or self._task.done()

    def offer(self, copy: Copy) -> None:
        """Has a copy read some time soon, or never."""
        size = reading_size(copy.question.items, copy.question.options)
        if self._stopped:
            self._metrics.shadow_dropped("draining")
            return
        if len(self._waiting) >= _MOST_WAITING or self._chars + size > _MOST_CHARS:
            self._metrics.shadow_dropped("full")
            return
        self._waiting.append((self._clock(), copy))
        self._chars += size
        if self.idle:
            self._task = asyncio.get_running_loop().create_task(self._work())

    def give_way(self) -> None:
        """Somebody's texts are about to be computed. From the event loop."""
        if self._reading is not None:
            reading, batcher = self._reading
            # One that is computed by now is in nobody's way.
            if not batcher.idle:
                reading.cancel()

    def stop(self) -> None:
        """Drops what waits, and gives up what is being read. From any thread."""
        self._stopped = True
        task = self._task
        if task is not None and not task.done():
            # The loop may end at this moment, and the task with it.
            with contextlib.suppress(RuntimeError):
                task.get_loop().call_soon_threadsafe(task.cancel)

    def close(self) -> None:
        """As `stop`, and gives the threads back."""
        self.stop()
        self._computing.close()

    async def _work(self) -> None:
        try:
            while self._waiting:
                offered_at, copy = self._waiting[0]
                hindrance = self._hindrance(copy)
                if not hindrance and not await self._read(copy):
                    hindrance = "busy"
                if hindrance and self._clock() - offered_at <= _PATIENCE_S:
                    await self._sleep(_PAUSE_S)
                    continue
                self._pop()
                if hindrance:
                    self._metrics.shadow_dropped(hindrance)
        finally:
            while self._stopped and self._waiting:
                self._pop()
                self._metrics.shadow_dropped("draining")

    def _pop(self) -> None:
        _, copy = self._waiting.popleft()
        self._chars -= reading_size(copy.question.items, copy.question.options)

    def _hindrance(self, copy: Copy) -> str:
        """Why a copy cannot be read just now; empty where it can."""
        if self._share.left_s(copy.counting.shadow_capacity, self._clock()) <= 0.0:
            return "capacity"
        # One that hangs for good has nothing to do with it.
        batchers = [engine.batcher for engine in self._pool.engines]
        return "" if all(one.idle or not one.alive for one in batchers) else "busy"

    async def _read(self, copy: Copy) -> bool:
        """Reads a copy and counts it; False where it gave way, and is to be read again.

        Whatever goes wrong is the version's, and is only counted.
        """
        question = copy.question.replace(priority=PRIORITY, deadline=None, trace=None)
        try:
            served = self._pool.take(copy.place, question.task)
        except XlmrError:
            self._metrics.shadow_dropped("not_loaded")
            return True
        life = Life(question, time.perf_counter(), served)
        places = _places(copy)
        faults = [None if place in places else _UNREAD for place in range(len(question.items))]
        found: dict[int, Found] = {}
        started = self._clock()
        answers = self._computing.answers(served, life, faults, sorted(places))
        reading = asyncio.create_task(answers)
        self._reading = reading, served.batcher
        try:
            await asyncio.wait((reading,))
        finally:
            self._reading = None
            reading.cancel()
            self._pool.give_back(served)
            elapsed_s = self._clock() - started
            self._share.use(elapsed_s)
        taken_s = work_s(life)
        try:
            found.update(reading.result())
            life.code = "ok"
        except XlmrError as fault:
            life.error, life.code = fault, fault.code
        except asyncio.CancelledError:
            self._metrics.shadow_interrupted()
            if not _too_slow(copy, elapsed_s):
                return False
            life.code, taken_s = "ok", elapsed_s
        except Exception:
            # As it would have been answered with a 500.
            logger.exception("%s failed on a copy of a request", copy.place)
        self._count(copy, life, found, taken_s)
        return True

    def _count(self, copy: Copy, life: Life, found: dict[int, Found], taken_s: float) -> None:
        refused = isinstance(life.error, InputError)
        events = () if refused else fault_events(life.code, life.error)
        if events is None or _no_room(life.error):
            self._metrics.shadow_dropped("busy")
            return
        agreed = None
        if refused and copy.outcomes:
            agreed = False
        elif not events:
            both = [place for place in sorted(found) if place < len(copy.outcomes)]
            agreed = agree(
                [copy.outcomes[place].answer for place in both], [found[place][0] for place in both]
            )
        self._metrics.shadowed("failed" if events else _WORDS[agreed])
        live = seen_of(
            copy.question,
            copy.outcomes,
            copy.events,
            counting=copy.counting,
            seconds=copy.seconds,
            identify=self._identify,
        )
        candidate = seen_of(
            copy.question,
            [Outcome(*found[place]) for place in sorted(found)],
            events,
            counting=copy.counting,
            seconds=None if copy.seconds is None else taken_s,
            identify=_unknown_languages,
        )
        if agreed is False and self._on_disagree and life.served is not None:
            first = prediction_id(copy.question, min(found, default=min(_places(copy))))
            self._on_disagree(first, life.served.ref.version, candidate.label or "")
        seen = {LIVE: live, CANDIDATE: replace(candidate, language=live.language)}
        caller = copy.question.caller.name
        self._tally.pair(copy.counting, seen, agreed=agreed, caller=caller)


def work_s(life: Life) -> float:
    """Seconds a version worked on a request: tokenising, computing, decoding."""
    return sum(
        stage.ended - stage.started
        for stage in life.stages
        if stage.name in ("tokenise", "infer", "decode")
    )


def _too_slow(copy: Copy, seconds: float) -> bool:
    """Whether so long is too long already, and may be held against the version."""
    limit_ms = copy.counting.objective_ms
    return copy.seconds is not None and limit_ms is not None and seconds * 1000.0 > limit_ms


def _places(copy: Copy) -> set[int]:
    """The texts to be read: those that were answered; where none was, all."""
    answered = {place for place, outcome in enumerate(copy.outcomes) if outcome.answer is not None}
    return answered or set(range(len(copy.question.items)))


def _no_room(error: XlmrError | None) -> bool:
    """Whether it was refused for want of room, which says nothing of the version."""
    if isinstance(error, DeadlineError):
        return False
    return isinstance(error, UnavailableError) and error.reason != "engine"


def _unknown_languages(texts: Sequence[str]) -> list[Language]:
    """The live version's answer tells the language already."""
    return [Language("und", 0.0)] * len(texts)


_WORDS = {True: "agreed", False: "disagreed", None: "not_comparable"}
