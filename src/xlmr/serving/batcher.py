"""Waiting encodings become batches for the compute threads.

One batcher has one queue and serves it with one thread for each runtime. The queue is bounded in
tokens, and what does not fit, or would be done too late, is refused at once, before any work. A
thread that is free takes what `Scheduler` says, up to the batch budget; it never waits for company.
A job of many encodings may spread over several batches, and then all its vectors arrive together.
Cancelling a job takes it out of the queue, and ends the batch that holds nothing else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xlmr.errors import (
    BudgetError,
    CancelledError,
    DeadlineError,
    EngineError,
    InputError,
    UnavailableError,
)
from xlmr.model.runtime import pack
from xlmr.serving.asked import (
    Computation,
    TakenBatch,
    as_engine_error,
    deliver,
    fail,
    load_of,
)
from xlmr.serving.finite import is_finite
from xlmr.serving.forecast import Forecast, Load
from xlmr.serving.scheduler import Scheduler
from xlmr.serving.urgency import work_in_background

if TYPE_CHECKING:
    from xlmr.model.runtime import Runtime
    from xlmr.telemetry.metrics import Metrics
    from xlmr.types import Encoding, Rows

logger = logging.getLogger("xlmr.serving.batcher")

# Between two looks at the queue an idle thread sleeps at most this long, to keep its pulse fresh.
_PULSE_SECONDS = 1.0
# Between two looks at a runtime that is being replaced.
_REST_SECONDS = 0.05
# A batch that takes longer than this is taken for a hung engine: the largest one takes seconds.
STALLED_SECONDS = 120.0


class Batcher:
    """Owns the runtimes' compute threads. May be called from any thread.

    Args:
        runtimes: one compute thread each.
        batch_tokens: most tokens of a batch.
        queue_tokens: most tokens waiting.
        metrics: told of every batch.
        batch_seconds: how long a batch should take at most; one text may take longer.
        age_bound_s: see `Scheduler`.
        measured: (tokens, squares, seconds) of batches that were timed before.
        clock: what deadlines are measured with.
    """

    def __init__(
        self,
        runtimes: Sequence[Runtime],
        *,
        batch_tokens: int,
        queue_tokens: int,
        metrics: Metrics,
        batch_seconds: float = 0.1,
        age_bound_s: float = 2.0,
        measured: Sequence[tuple[int, int, float]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtimes = runtimes
        self._budget = min(batch_tokens, *(runtime.max_batch_tokens for runtime in runtimes))
        self._queue_limit = queue_tokens
        self._metrics = metrics
        self._batch_seconds = batch_seconds
        self._clock = clock
        # Entering a condition takes twice as long as entering its lock.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._queue: Scheduler[Computation] = Scheduler(
            budget=self._budget, age_bound_s=age_bound_s
        )
        self._forecast = Forecast(
            self._queue,
            engines=len(runtimes),
            budget=self._budget,
            batch_seconds=batch_seconds,
            measured=measured,
        )
        self._closing = False
        self._living = len(runtimes)
        self._pulses = [clock()] * len(runtimes)
        self._threads = [
            threading.Thread(target=self._live, args=(n,), name=f"xlmr-compute-{n}", daemon=True)
            for n in range(len(runtimes))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting_tokens(self) -> int:
        """Tokens in the queue; those being computed are not among them."""
        return self._queue.tokens

    @property
    def waiting_requests(self) -> int:
        """Requests in the queue, those that are computed in part among them."""
        return len(self._queue)

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do and expects nothing."""
        with self._lock:
            return not self._forecast.busy

    @property
    def oldest_s(self) -> float:
        """How long the oldest waiting request has waited; 0 where none does."""
        with self._lock:
            arrived = self._queue.arrival()
        return 0.0 if arrived is None else self._clock() - arrived

    @property
    def alive(self) -> bool:
        """Whether every compute thread lives and moves."""
        oldest = min(self._pulses)
        moving = self._clock() - oldest < STALLED_SECONDS
        return self._living == len(self._threads) and moving

    def check(self, load: Load, *, deadline: float | None, priority: int = 1) -> None:
        """Refuses what `submit` would refuse, as early as that can be known.

        Raises:
            OverloadedError: it would be done too late.
            UnavailableError: the queue is full, or the threads have stopped.
        """
        with self._lock:
            self._admit(load, deadline, priority)

    def expect(self, load: Load, *, deadline: float | None, priority: int = 1) -> None:
        """As `check`; and from now on, until `expected`, the load counts as waiting."""
        with self._lock:
            self._admit(load, deadline, priority)
            self._forecast.expect(load)

    def expected(self, load: Load) -> None:
        """What was expected is about to be submitted, or will never be."""
        with self._lock:
            self._forecast.expected(load)

    def submit(
        self,
        encodings: Sequence[Encoding],
        *,
        rows: Rows,
        deadline: float | None = None,
        priority: int = 1,
    ) -> Computation:
        """Queues encodings; it gives one array each: [L, D], or [1, D] for rows="first".

        It fails with `DeadlineError` where the deadline passes before anything was computed.

        Raises:
            BudgetError: one encoding alone exceeds the batch budget.
            InputError: the encodings together could never stand in the queue.
            OverloadedError: the answer would come after the deadline.
            UnavailableError: the queue is full, or the batcher has stopped.
        """
        job = Computation(encodings, rows, self._clock(), deadline, priority)
        if not encodings:
            job.end()
            return job
        longest = max(job.lengths)
        if longest > self._budget:
            raise BudgetError(f"a text of {longest} tokens; a batch holds {self._budget}")
        if job.tokens > self._queue_limit:
            raise InputError(
                f"{job.tokens} tokens in one request; at most {self._queue_limit} can wait",
                hint="send fewer texts at once",
            )
        load = Load(job.tokens, job.squares, len(encodings))
        with self._lock:
            job.promised = self._admit(load, deadline, priority)
            seconds = self._forecast.batch.seconds(job.tokens, job.squares)
            self._queue.add(job, seconds=seconds)
            self._changed.notify()
        job.on_cancel = self._forget
        return job

    def answered(self, computation: Computation) -> None:
        """What was computed is an answer now: how much later than it was promised is learned."""
        if computation.promised is not None:
            late_s = self._clock() - computation.promised
            with self._lock:
                self._forecast.delay.observe(late_s)

    def close(self) -> None:
        """Finishes what is queued, then stops the threads. Calling it twice is harmless."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _admit(self, load: Load, deadline: float | None, priority: int) -> float | None:
        now = self._clock()
        if self._closing or not self._living:
            raise UnavailableError(
                "the compute thread has stopped", retry_after_s=5.0, reason="engine"
            )
        if now - max(self._pulses) >= STALLED_SECONDS:
            raise UnavailableError("the engine does not answer", retry_after_s=5.0, reason="engine")
        done = self._forecast.check(load, deadline=deadline, priority=priority, now=now)
        if self._queue.tokens + load.tokens > self._queue_limit:
            raise UnavailableError(
                f"{self._queue.tokens} tokens are waiting already",
                reason="queue_full",
                retry_after_s=max(1.0, self._forecast.cleared_s(now) / 2),
                hint="come back later or send less at once",
            )
        return done

    def _forget(self, job: Computation) -> None:
        """Takes what is left of a job out of the queue, and stops its batch if it is alone."""
        with self._lock:
            self._queue.remove(job)
            if job.given_up is not None:
                job.given_up[0] = 1

    def _live(self, number: int) -> None:
        """A compute thread. However it ends, nobody is left waiting for it."""
        work_in_background()
        batch: TakenBatch = []
        try:
            while batch := self._take(number):
                self._compute(number, batch)
        finally:
            with self._changed:
                self._living -= 1
                abandoned = [piece.job for piece in batch]
                if not self._living:
                    abandoned += self._queue
                abandoned = self._settle(abandoned)
                self._changed.notify_all()
            fail(abandoned, lambda: EngineError("the compute thread has died"))

    def _take(self, number: int) -> TakenBatch:
        """The next batch, waiting for one; empty once the batcher is closed and the queue done."""
        while True:
            with self._changed:
                while not len(self._queue):
                    if self._closing:
                        return []
                    self._pulses[number] = self._clock()
                    self._changed.wait(_PULSE_SECONDS)
                now = self._pulses[number] = self._clock()
                late = self._settle(self._queue.expired(now))
                rests = self._rests(number)
                batch: TakenBatch = []
                if not rests:
                    a, b, _ = self._forecast.batch.coefficients
                    batch = self._queue.take(now, seconds=self._batch_seconds, pace=(a, b))
                if batch:
                    self._forecast.begun(number, load_of(batch), now)
                    alone = batch[0].job
                    if len(batch) == 1 and alone.given_up is None:
                        alone.given_up = np.zeros(1, np.uint8)
                # Also where it rests: it was woken for work that one of the others can take.
                if len(self._queue):
                    self._changed.notify()
            fail(late, lambda: DeadlineError("the deadline passed while the request waited"))
            if batch:
                return batch
            if rests:
                time.sleep(_REST_SECONDS)

    def _rests(self, number: int) -> bool:
        """Whether its runtime is being replaced while another can take the batch."""
        if _available(self._runtimes[number]):
            return False
        return any(map(_available, self._runtimes))

    def _compute(self, number: int, batch: TakenBatch) -> None:
        encodings = [piece.job.encodings[index] for piece in batch for index in piece.indexes]
        given_up = batch[0].job.given_up if len(batch) == 1 else None
        packed = pack(encodings, given_up=given_up)
        started = self._clock()
        for piece in batch:
            job = piece.job
            if job.missing == len(job.encodings):
                job.taken_at = started
        try:
            with self._metrics.busy:
                hidden = self._runtimes[number].run(packed, rows=batch[0].job.rows)
        except Exception as raised:
            fault = raised
            if given_up is None or not given_up[0] or not isinstance(fault, CancelledError):
                # Whatever an engine throws, only the jobs of this batch may feel it.
                logger.exception("the runtime failed on a batch of %d texts", len(encodings))
                self._metrics.engine_fault()
            with self._changed:
                self._forecast.ended(number, None, 0.0)
                failed = self._settle(piece.job for piece in batch)
            fail(failed, lambda: as_engine_error(fault))
            return
        ended = self._clock()
        # Here for all at once, and while they are still in this processor's cache.
        finite = is_finite(hidden.hidden_TD)
        with self._lock:
            self._forecast.ended(number, load_of(batch), ended - started)
            done = self._settle(deliver(batch, hidden, ended, finite=finite))
        self._metrics.batch(tokens=len(packed.ids_T), texts=len(encodings), seconds=ended - started)
        for job in done:
            job.end()

    def _settle(self, jobs: Iterable[Computation]) -> list[Computation]:
        """Those of the jobs whose end is not known yet: now it is. What is left of them is dropped.

        Two threads may learn of the end of one job, which must have one end all the same.
        """
        settled = []
        for job in jobs:
            self._queue.remove(job)
            if not job.settled:
                job.settled = True
                settled.append(job)
        return settled


def _available(runtime: Runtime) -> bool:
    """Whether it could compute now: a worker process that died is not there for a while."""
    return getattr(runtime, "available", True)
