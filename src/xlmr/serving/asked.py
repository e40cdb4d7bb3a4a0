"""The encodings of one request on their way through the engine, and the one end they come to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeAlias

from xlmr.errors import EngineError, UnavailableError, XlmrError
from xlmr.serving.forecast import Load
from xlmr.serving.scheduler import Job, Slice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xlmr.types import Encoding, Hidden, Rows

Vectors: TypeAlias = "list[NDArray[np.float32]]"


class Computation(Future["Vectors"]):
    """The vectors to come. Once they are there, how long they took.

    Attributes:
        queue_s: seconds until the first batch took one of its encodings.
        infer_s: seconds from then until the last was computed.
        promised: when it was predicted to be there, on the batcher's clock; None if nobody asked.
        finite: whether all that was computed beside it, and so all of its own, are numbers.
        on_cancel: called when it is cancelled.
    """

    def __init__(self) -> None:
        super().__init__()
        self.queue_s = 0.0
        self.infer_s = 0.0
        self.promised: float | None = None
        self.finite = True
        self.on_cancel: Callable[[], None] = _nothing

    def cancel(self) -> bool:
        """Nobody waits for it any more; False where its end is there already."""
        cancelled = super().cancel()
        if cancelled:
            self.on_cancel()
        return cancelled


def _nothing() -> None: ...


class Asked(Job):
    """What was asked for together, and as much of its vectors as is there.

    Attributes:
        missing: how many of its encodings are not computed yet.
        settled: whether its end is known; only its batcher says so.
        taken_at: when the first batch took one of them.
    """

    __slots__ = ("computation", "encodings", "missing", "settled", "taken_at", "vectors")

    def __init__(
        self,
        encodings: Sequence[Encoding],
        rows: Rows,
        arrived: float,
        deadline: float | None,
        priority: int,
    ) -> None:
        lengths = [len(encoding.ids) for encoding in encodings]
        super().__init__(lengths, rows=rows, arrived=arrived, deadline=deadline, priority=priority)
        self.encodings = encodings
        self.computation = Computation()
        self.vectors: list[NDArray[np.float32] | None] = [None] * len(encodings)
        self.missing = len(encodings)
        self.settled = False
        self.taken_at = arrived


TakenBatch: TypeAlias = "list[Slice[Asked]]"


def load_of(batch: TakenBatch) -> Load:
    """What a batch holds."""
    return Load.of([piece.job.lengths[index] for piece in batch for index in piece.indexes])


def deliver(batch: TakenBatch, hidden: Hidden, ended: float, *, finite: bool) -> list[Asked]:
    """Cuts the hidden rows by text, and gives the jobs whose last text this was.

    `finite` says whether all rows hold numbers.
    """
    starts = hidden.starts.tolist()
    done = []
    at = 0
    for piece in batch:
        job = piece.job
        for index in piece.indexes:
            job.vectors[index] = hidden.hidden_TD[starts[at] : starts[at + 1]]
            at += 1
        job.missing -= len(piece.indexes)
        job.computation.finite &= finite
        if job.missing == 0:
            job.computation.queue_s = job.taken_at - job.arrived
            job.computation.infer_s = ended - job.taken_at
            done.append(job)
    return done


def answer(jobs: Iterable[Asked]) -> None:
    """Gives those who still wait their vectors."""
    for job in jobs:
        future = job.computation
        # A job has one end, so it is waited for, or was cancelled.
        if future.set_running_or_notify_cancel():
            future.set_result([vector for vector in job.vectors if vector is not None])


def fail(jobs: Iterable[Asked], fault: Callable[[], XlmrError]) -> None:
    """Each with an error of its own: an exception collects the frames of whoever raises it."""
    for job in jobs:
        future = job.computation
        if not future.done() and future.set_running_or_notify_cancel():
            future.set_exception(fault())


def as_engine_error(fault: Exception) -> XlmrError:
    """Our own errors pass; a foreign one is named by its type, since its words may quote input."""
    if isinstance(fault, EngineError | UnavailableError):
        return fault
    error = EngineError(f"the runtime failed ({type(fault).__name__})")
    error.__cause__ = fault
    return error
