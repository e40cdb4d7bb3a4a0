"""Lines of a log, written by a thread of their own.

A disk that is full and a reader that stands still cost lines, never requests; how many is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import BinaryIO, Generic, TypeVar

from xlmr.telemetry.outbox import Outbox

T = TypeVar("T")

# Some 5 MB.
_MOST_WAITING = 10_000
# Lines of this long are written in one go: a system call for each would cost more than the line.
_GATHERING_SECONDS = 0.05
# How long a stream that takes nothing for the moment (a non-blocking pipe) is asked again.
_PATIENCE_SECONDS = 1.0


class LineWriter(Generic[T]):
    """Takes values from any thread; its own renders each as a line and writes it."""

    def __init__(
        self,
        stream: BinaryIO | None,
        render: Callable[[T], bytes],
        *,
        on_drop: Callable[[int], None] = lambda lines: None,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        """Starts the thread.

        Args:
            stream: where to; written without its buffer, which would keep what could not be
                written and fail again with it. None drops everything.
            render: a value as a line, without its end; called by the thread.
            on_drop: told how many lines were lost, from any thread.
            most_waiting: lines beyond it are dropped.
        """
        self._raw = getattr(stream, "raw", stream)
        self._render = render
        self._on_drop = on_drop
        self._torn = False
        self._outbox = Outbox(
            self._write_all,
            name="xlmr-log",
            most_waiting=most_waiting,
            gathering_s=_GATHERING_SECONDS,
        )

    def put(self, value: T) -> None:
        """Queues a value. Never waits, never raises."""
        if not self._outbox.put(value):
            self._on_drop(1)

    def flush(self) -> None:
        """Waits until what was put before is written or dropped, at most two seconds."""
        self._outbox.flush()

    def close(self) -> None:
        """Writes what waits, as far as that goes, and ends. Calling it twice is harmless."""
        self._outbox.close()

    def _write_all(self, values: list[T]) -> None:
        lines: list[bytes] = []
        for value in values:
            try:
                lines.append(self._render(value) + b"\n")
            except ValueError:  # half a character in a name: no encoding takes it
                self._on_drop(1)
        lost = self._write(lines)
        if lost:
            self._on_drop(lost)

    def _write(self, lines: list[bytes]) -> int:
        """Writes lines together; how many did not get out whole."""
        # Half a line from last time is ended first, so that it spoils no other.
        data = b"".join([b"\n", *lines] if self._torn else lines)
        written = self._write_bytes(data)
        end, lost = len(data), 0
        while end > written and lost < len(lines):
            lost += 1
            end -= len(lines[-lost])
        self._torn = written > end if lost else False
        return lost

    def _write_bytes(self, data: bytes) -> int:
        """How many bytes the stream took before it failed, or took none for too long."""
        written = 0
        until = time.monotonic() + _PATIENCE_SECONDS
        while self._raw is not None and written < len(data):
            try:
                taken = self._raw.write(data[written:])
            except (OSError, ValueError):  # a ValueError where the stream was closed
                return written
            if taken:
                written += taken
            elif time.monotonic() > until:
                return written
            else:
                time.sleep(0.01)
        return written
