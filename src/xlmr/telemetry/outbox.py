"""What can wait, handed over by a thread of its own.

Whoever has something to say puts it here and goes on: never waiting, never failing. What finds no
room is dropped, and the caller is told by `put`'s answer.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_CLOSING_SECONDS = 2.0


class Outbox(Generic[T]):
    """A bounded queue and the thread that empties it."""

    def __init__(
        self,
        deliver: Callable[[list[T]], None],
        *,
        name: str,
        most_waiting: int,
        gathering_s: float,
    ) -> None:
        """Starts the thread.

        Args:
            deliver: called by the thread with what has gathered; must not raise.
            name: of the thread.
            most_waiting: what is put beyond it is dropped.
            gathering_s: how long the first of a batch waits for company, since each delivery costs.
        """
        self._deliver = deliver
        self._most_waiting = most_waiting
        self._gathering_s = gathering_s
        self._waiting: deque[T | threading.Event] = deque()
        self._awake = False
        self._wake, self._hurry = threading.Event(), threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def put(self, value: T) -> bool:
        """Queues a value; False where there was no room."""
        if len(self._waiting) >= self._most_waiting:
            return False
        self._waiting.append(value)
        # The order keeps every value: it lies in the queue before the flag is looked at, and the
        # thread lowers the flag before it looks at the queue.
        if not self._awake:
            self._awake = True
            self._wake.set()
        return True

    @property
    def waiting(self) -> int:
        """How many values wait."""
        return len(self._waiting)

    def flush(self, timeout_s: float = _CLOSING_SECONDS) -> None:
        """Waits until what was put before is delivered, at most so long."""
        reached = threading.Event()
        self._waiting.append(reached)
        self._hurry.set()
        self._wake.set()
        reached.wait(timeout_s)

    def close(self, timeout_s: float = _CLOSING_SECONDS) -> None:
        """Delivers what waits, for at most so long, and ends. Calling it twice is harmless."""
        atexit.unregister(self.close)
        self._closing = True
        self._hurry.set()
        self._wake.set()
        self._thread.join(timeout_s)

    def _live(self) -> None:
        while not self._closing:
            self._wake.wait()
            self._hurry.wait(self._gathering_s)
            self._wake.clear()
            self._hurry.clear()
            self._awake = False
            self._empty()
        self._empty()

    def _empty(self) -> None:
        values: list[T] = []
        reached: list[threading.Event] = []
        while self._waiting:
            value = self._waiting.popleft()
            if isinstance(value, threading.Event):
                reached.append(value)
            else:
                values.append(value)
        if values:
            self._deliver(values)
        for event in reached:
            event.set()
