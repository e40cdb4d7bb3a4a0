"""Waiting encodings become batches for one compute thread.

One batcher serves one runtime. Its queue is bounded in tokens, and what does not fit is refused at
once, before any work. The thread takes whatever waits, oldest first, up to the batch budget; it
never waits for company. A job of many encodings may spread over several batches, and then all its
vectors arrive together. Cancelling a job's future takes it out of the queue.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from xlmr.errors import BudgetError, EngineError, InputError, UnavailableError, XlmrError
from xlmr.model.runtime import pack

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xlmr.model.runtime import Runtime
    from xlmr.telemetry.metrics import Metrics
    from xlmr.types import Encoding, Rows

logger = logging.getLogger("xlmr.serving.batcher")

# Between two looks at the queue the idle thread sleeps at most this long, to keep its pulse fresh.
_PULSE_SECONDS = 1.0
# A batch that takes longer than this is taken for a hung engine: the largest one takes seconds.
_STALLED_SECONDS = 120.0

Vectors: TypeAlias = "list[NDArray[np.float32]]"


class _Job:
    """The encodings of one request on their way through the engine."""

    __slots__ = (
        "encodings",
        "future",
        "missing",
        "queued_s",
        "rows",
        "submitted",
        "taken",
        "vectors",
    )

    def __init__(self, encodings: Sequence[Encoding], rows: Rows) -> None:
        self.encodings = encodings
        self.rows = rows
        self.future: Future[Vectors] = Future()
        self.vectors: list[NDArray[np.float32] | None] = [None] * len(encodings)
        self.taken = 0
        self.missing = len(encodings)
        self.submitted = time.perf_counter()
        self.queued_s = 0.0

    def waiting_tokens(self) -> int:
        """Tokens not yet handed to the engine."""
        return sum(len(encoding.ids) for encoding in self.encodings[self.taken :])


@dataclass(frozen=True, slots=True)
class _Slice:
    """`encodings[first:end]` of a job, taken into a batch."""

    job: _Job
    first: int
    end: int


class Batcher:
    """Owns a runtime's compute thread. `submit` may be called from any thread."""

    def __init__(
        self, runtime: Runtime, *, batch_tokens: int, queue_tokens: int, metrics: Metrics
    ) -> None:
        self._runtime = runtime
        self._budget = min(batch_tokens, runtime.max_batch_tokens)
        self._queue_limit = queue_tokens
        self._metrics = metrics
        self._changed = threading.Condition()
        self._queues: dict[Rows, OrderedDict[_Job, None]] = {
            "first": OrderedDict(),
            "all": OrderedDict(),
        }
        self._waiting_tokens = 0
        self._closing = False
        self._dead = False
        self._pulse = time.monotonic()
        self._tokens_per_second = 1000.0
        self._thread = threading.Thread(target=self._live, name="xlmr-compute", daemon=True)
        self._thread.start()

    @property
    def waiting_tokens(self) -> int:
        """Tokens in the queue; those being computed are not among them."""
        return self._waiting_tokens

    @property
    def alive(self) -> bool:
        """Whether the compute thread lives and moves."""
        fresh = time.monotonic() - self._pulse < _STALLED_SECONDS
        return self._thread.is_alive() and not self._dead and fresh

    def submit(self, encodings: Sequence[Encoding], *, rows: Rows) -> Future[Vectors]:
        """Queues encodings; the future gives one array each: [L, D], or [1, D] for rows="first".

        Raises:
            BudgetError: one encoding alone exceeds the batch budget.
            InputError: the encodings together could never stand in the queue.
            UnavailableError: the queue is full, or the batcher has stopped.
        """
        job = _Job(encodings, rows)
        if not encodings:
            job.future.set_result([])
            return job.future
        lengths = [len(encoding.ids) for encoding in encodings]
        tokens = sum(lengths)
        if max(lengths) > self._budget:
            raise BudgetError(f"a text of {max(lengths)} tokens; a batch holds {self._budget}")
        if tokens > self._queue_limit:
            raise InputError(
                f"{tokens} tokens in one request; at most {self._queue_limit} can wait",
                hint="send fewer texts at once",
            )
        with self._changed:
            if self._closing or self._dead:
                raise UnavailableError("the compute thread has stopped", retry_after_s=5.0)
            if self._waiting_tokens + tokens > self._queue_limit:
                raise UnavailableError(
                    f"{self._waiting_tokens} tokens are waiting already",
                    retry_after_s=max(1.0, self._waiting_tokens / self._tokens_per_second),
                    hint="come back later or send less at once",
                )
            self._queues[rows][job] = None
            self._waiting_tokens += tokens
            self._changed.notify()
        job.future.add_done_callback(
            lambda future: self._forget(job) if future.cancelled() else None
        )
        return job.future

    def close(self) -> None:
        """Finishes what is queued, then stops the thread. Calling it twice is harmless."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _forget(self, job: _Job) -> None:
        """Takes what is left of a job out of the queue."""
        with self._changed:
            if job in self._queues[job.rows]:
                del self._queues[job.rows][job]
                self._waiting_tokens -= job.waiting_tokens()

    def _live(self) -> None:
        """The compute thread. However it ends, nobody is left waiting for it."""
        batch: list[_Slice] = []
        try:
            while batch := self._take():
                self._compute(batch)
                self._pulse = time.monotonic()
        finally:
            with self._changed:
                self._dead = True
                abandoned = [piece.job for piece in batch]
                abandoned += [job for queue in self._queues.values() for job in queue]
                for queue in self._queues.values():
                    queue.clear()
                self._waiting_tokens = 0
            for job in abandoned:
                _fail(job, EngineError("the compute thread has died"))

    def _take(self) -> list[_Slice]:
        """The next batch, waiting for one; empty once the batcher is closed and the queue done."""
        with self._changed:
            while not any(self._queues.values()):
                if self._closing:
                    return []
                self._pulse = time.monotonic()
                self._changed.wait(_PULSE_SECONDS)
            self._pulse = time.monotonic()
            heads = (next(iter(queue)) for queue in self._queues.values() if queue)
            oldest = min(heads, key=lambda job: job.submitted)
            return self._fill(self._queues[oldest.rows])

    def _fill(self, queue: OrderedDict[_Job, None]) -> list[_Slice]:
        """Takes from the front until the budget is spent. A later text never overtakes."""
        batch: list[_Slice] = []
        room = self._budget
        while queue:
            job = next(iter(queue))
            first = end = job.taken
            while end < len(job.encodings) and len(job.encodings[end].ids) <= room:
                room -= len(job.encodings[end].ids)
                end += 1
            if end > first:
                job.taken = end
                batch.append(_Slice(job, first, end))
                if first == 0:
                    job.queued_s = time.perf_counter() - job.submitted
            if end < len(job.encodings):
                break
            del queue[job]
        self._waiting_tokens -= self._budget - room
        return batch

    def _compute(self, batch: list[_Slice]) -> None:
        encodings = [e for piece in batch for e in piece.job.encodings[piece.first : piece.end]]
        packed = pack(encodings)
        started = time.perf_counter()
        try:
            hidden = self._runtime.run(packed, rows=batch[0].job.rows)
        except Exception as fault:
            # Whatever an engine throws, only the jobs of this batch may feel it.
            logger.exception("the runtime failed on a batch of %d texts", len(encodings))
            self._metrics.engine_fault()
            for piece in batch:
                self._forget(piece.job)
                _fail(piece.job, _as_engine_error(fault))
            return
        seconds = time.perf_counter() - started
        tokens = len(packed.ids_T)
        self._tokens_per_second += 0.2 * (tokens / max(seconds, 1e-6) - self._tokens_per_second)
        self._metrics.batch(tokens=tokens, texts=len(encodings), seconds=seconds)
        _deliver(batch, hidden.hidden_TD, hidden.starts.tolist(), self._metrics)


def _deliver(
    batch: list[_Slice], hidden_TD: NDArray[np.float32], starts: list[int], metrics: Metrics
) -> None:
    """Cuts the hidden rows by text; a job whose last text this was is answered."""
    at = 0
    for piece in batch:
        job = piece.job
        for index in range(piece.first, piece.end):
            job.vectors[index] = hidden_TD[starts[at] : starts[at + 1]]
            at += 1
        job.missing -= piece.end - piece.first
        if job.missing == 0 and not job.future.done() and job.future.set_running_or_notify_cancel():
            metrics.stage("queue", job.queued_s)
            job.future.set_result([vector for vector in job.vectors if vector is not None])


def _fail(job: _Job, fault: XlmrError) -> None:
    if not job.future.done() and job.future.set_running_or_notify_cancel():
        job.future.set_exception(fault)


def _as_engine_error(fault: Exception) -> XlmrError:
    """Our own errors pass; a foreign one is named by its type, since its words may quote input."""
    if isinstance(fault, EngineError):
        return fault
    error = EngineError(f"the runtime failed ({type(fault).__name__})")
    error.__cause__ = fault
    return error
