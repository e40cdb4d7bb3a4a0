"""Who goes first on a machine with few cores: the event loop, which answers people; then work."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable

# By so much computing is nicer than answering: a third of its weight.
_NICER = 5
# How often it is looked how late the event loop is.
_BEAT_SECONDS = 0.05


def work_in_background() -> None:
    """Says that this thread, and those it will start, compute: who answers goes first.

    Others that wake up are not made to wait for the end of its turn, and where there are fewer
    cores than threads it gets a third of what they get. Without it a refusal waits behind batches
    wherever engine and event loop share a core. Where the system knows no such thing nothing
    happens, and nothing to the main thread. Said again, or in a thread that such a one started, it
    changes nothing: the tenth version that a server loads computes no nicer than the first.
    """
    if threading.current_thread() is threading.main_thread() or not hasattr(os, "SCHED_BATCH"):
        return
    # A container may forbid it.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        # By its number the process stands for its main thread.
        nice = os.getpriority(os.PRIO_PROCESS, os.getpid()) + _NICER
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


class LoopLag:
    """How late the event loop is: so long a request has waited before anybody saw it.

    Belongs to one event loop, and starts to look when it is asked first.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: float | None = None
        self._last = 0.0

    def seconds(self) -> float:
        """As far as is known now."""
        if self._due is None:
            self._expect()
            return 0.0
        return max(self._last, self._clock() - self._due)

    def _expect(self) -> None:
        self._due = self._clock() + _BEAT_SECONDS
        asyncio.get_running_loop().call_later(_BEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        assert self._due is not None
        self._last = max(0.0, self._clock() - self._due)
        self._expect()
