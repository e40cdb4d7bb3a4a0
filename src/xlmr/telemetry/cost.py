"""How long the machine was at work: what its price is shared out by."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType


class Busy:
    """Time in which somebody was inside, counted once however many were: `with busy: ...`.

    Several engines on one machine do not make its hour cost more.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._inside = 0
        self._since = 0.0
        self._seconds = 0.0

    def seconds(self) -> float:
        """Up to now; a stay that has not ended counts as far as it got."""
        with self._lock:
            return self._seconds + (self._clock() - self._since if self._inside else 0.0)

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._since = self._clock()
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._seconds += self._clock() - self._since
