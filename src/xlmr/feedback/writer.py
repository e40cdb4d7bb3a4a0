"""Records on their way to the store, off the path of requests.

Whoever answers puts a record here and goes on. A store that is away, slow or full costs records,
never an answer; how many is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from xlmr.errors import XlmrError
from xlmr.feedback.record import Record
from xlmr.telemetry.outbox import Outbox

# Some 20 MB with texts of usual length.
_MOST_WAITING = 10_000
# A transaction reaches the disk once, however many records it holds.
_GATHERING_SECONDS = 0.25


class Sink(Protocol):
    """What keeps records: a `Store`."""

    def add(self, records: Sequence[Record]) -> None:
        """Keeps them, all or none; raises an XlmrError where it cannot."""


class Writer:
    """Takes records from any thread; its own redacts them and writes them in batches."""

    def __init__(
        self,
        sink: Sink,
        keep: Callable[[Record], Record],
        *,
        on_keep: Callable[[int], None] = lambda records: None,
        on_drop: Callable[[int, str], None] = lambda records, reason: None,
        most_waiting: int = _MOST_WAITING,
        gathering_s: float = _GATHERING_SECONDS,
    ) -> None:
        """Starts the thread.

        Args:
            sink: where records go.
            keep: what of a record is kept (`policy.Keeper`); called by the thread, must not raise.
            on_keep: told by the thread how many records the sink has taken.
            on_drop: told how many records were lost and why, from any thread: `queue_full` or
                `store`.
            most_waiting: records beyond it are dropped.
            gathering_s: how long the first of a batch waits for company.
        """
        self._sink = sink
        self._keep = keep
        self._on_keep = on_keep
        self._on_drop = on_drop
        self._outbox = Outbox(
            self._write, name="xlmr-feedback", most_waiting=most_waiting, gathering_s=gathering_s
        )

    @property
    def waiting(self) -> int:
        """How many records wait to be written."""
        return self._outbox.waiting

    def put(self, record: Record) -> None:
        """Queues a record. Never waits, never raises."""
        if not self._outbox.put(record):
            self._on_drop(1, "queue_full")

    def flush(self, timeout_s: float = 2.0) -> None:
        """Waits until what was put before is kept or dropped, at most so long."""
        self._outbox.flush(timeout_s)

    def close(self, timeout_s: float = 2.0) -> None:
        """Writes what waits, for at most so long, and ends. Calling it twice is harmless."""
        self._outbox.close(timeout_s)

    def _write(self, records: list[Record]) -> None:
        try:
            self._sink.add([self._keep(record) for record in records])
        except XlmrError:
            self._on_drop(len(records), "store")
        else:
            self._on_keep(len(records))
