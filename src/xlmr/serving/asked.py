"""The encodings of one request on their way through the engine, and the one end they come to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, TypeAlias

from xlmr.errors import EngineError, UnavailableError, XlmrError
from xlmr.serving.forecast import Load
from xlmr.serving.scheduler import Job, Slice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xlmr.types import Encoding, Hidden, Rows

Vectors: TypeAlias = "list[NDArray[np.float32]]"


class Computation(Job):
    """What was asked for together, and the vectors it comes to.

    A future without a lock, which a request would enter five times: it is ended once, by its
    batcher, and listened to once. Who cancels says that nobody waits any more; where that crosses
    with its end either may hold, and nobody is there to see which.

    Attributes:
        missing: how many of its encodings are not computed yet.
        settled: whether its end is known; only its batcher says so.
        taken_at: when the first batch took one of them.
        queue_s: seconds until then.
        infer_s: seconds from then until the last was computed.
        promised: when it was predicted to be there, on the batcher's clock; None if nobody asked.
        finite: whether all that was computed beside it, and so all of its own, are numbers.
        given_up: as in `Batch`, from when it is computed alone; else None.
        on_cancel: called when it is cancelled.
    """

    __slots__ = (
        "_ended",
        "_fault",
        "_told",
        "encodings",
        "finite",
        "given_up",
        "infer_s",
        "missing",
        "on_cancel",
        "promised",
        "queue_s",
        "settled",
        "taken_at",
        "vectors",
    )

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
        self.vectors: list[NDArray[np.float32] | None] = [None] * len(encodings)
        self.missing = len(encodings)
        self.settled = False
        self.taken_at = arrived
        self.queue_s = self.infer_s = 0.0
        self.promised: float | None = None
        self.finite = True
        self.given_up: NDArray[np.uint8] | None = None
        self.on_cancel: Callable[[Computation], None] = _ignore
        self._told: Callable[[Computation], None] = _ignore
        self._ended = False
        self._fault: XlmrError | CancelledError | None = None

    def done(self) -> bool:
        """Whether it has ended, in whichever way."""
        return self._ended

    def cancelled(self) -> bool:
        """Whether it ended because nobody waited."""
        return isinstance(self._fault, CancelledError)

    def cancel(self) -> bool:
        """Nobody waits for it any more; False where its end is there already."""
        if self._ended:
            return False
        self.end(CancelledError())
        self.on_cancel(self)
        return True

    def end(self, fault: XlmrError | CancelledError | None = None) -> None:
        """Its vectors are all there, or never will be."""
        if not self._ended:
            self._fault = fault
            self._ended = True
            self._told(self)

    def tell(self, told: Callable[[Computation], None]) -> None:
        """Calls it at the end, in whatever thread that comes; twice if that is just now."""
        self._told = told
        if self._ended:
            told(self)

    def result(self, timeout: float | None = None) -> Vectors:
        """The vectors; waits for them, where there is a thread to spare.

        Raises:
            TimeoutError: nothing in so many seconds.
            CancelledError: it was cancelled.
            XlmrError: it failed.
        """
        if not self._ended:
            ended = threading.Event()
            self.tell(lambda _: ended.set())
            if not ended.wait(timeout):
                raise TimeoutError
        if self._fault is not None:
            raise self._fault
        return [vector for vector in self.vectors if vector is not None]


def _ignore(computation: Computation) -> None: ...


TakenBatch: TypeAlias = "list[Slice[Computation]]"


def load_of(batch: TakenBatch) -> Load:
    """What a batch holds."""
    return Load.of([piece.job.lengths[index] for piece in batch for index in piece.indexes])


def deliver(batch: TakenBatch, hidden: Hidden, ended: float, *, finite: bool) -> list[Computation]:
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
        job.finite &= finite
        if job.missing == 0:
            job.queue_s = job.taken_at - job.arrived
            job.infer_s = ended - job.taken_at
            done.append(job)
    return done


def fail(jobs: Iterable[Computation], fault: Callable[[], XlmrError]) -> None:
    """Each with an error of its own: an exception collects the frames of whoever raises it."""
    for job in jobs:
        job.end(fault())


def as_engine_error(fault: Exception) -> XlmrError:
    """Our own errors pass; a foreign one is named by its type, since its words may quote input."""
    if isinstance(fault, EngineError | UnavailableError):
        return fault
    error = EngineError(f"the runtime failed ({type(fault).__name__})")
    error.__cause__ = fault
    return error
