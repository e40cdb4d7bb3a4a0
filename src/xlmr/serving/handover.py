"""What other threads have done reaches the event loop together: it is woken once for all of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from xlmr.errors import XlmrError

if TYPE_CHECKING:
    from xlmr.serving.asked import Computation, Vectors

    Waiter = asyncio.Future[Vectors]

# How often it is looked who has waited for too long: a timer for each of them would cost more.
_LOOK_SECONDS = 0.1


class Handover:
    """Belongs to the event loop it is first used on.

    A batch ends many requests at once. asyncio's own bridge would wake the loop for each of them,
    and a call to the system, with the lock of the interpreter changing hands, for each wake.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: deque[tuple[Waiter, Computation]] = deque()
        self._woken = False
        # Who waits, and until when.
        self._waiting: dict[Waiter, float] = {}
        self._looking = False

    async def vectors(self, computation: Computation, *, until: float) -> Vectors:
        """What a computation comes to. It is not cancelled with whoever waits.

        Args:
            until: how long it is waited for, on the loop's clock; a moment longer is possible.

        Raises:
            TimeoutError: nothing until then.
            asyncio.CancelledError: it was cancelled.
            XlmrError: its own.
        """
        loop = self._loop = asyncio.get_running_loop()
        waiter: Waiter = loop.create_future()
        self._waiting[waiter] = until
        if not self._looking:
            self._looking = True
            loop.call_later(_LOOK_SECONDS, self._look)
        computation.tell(partial(self._tell, waiter))
        try:
            return await waiter
        finally:
            del self._waiting[waiter]

    def _tell(self, waiter: Waiter, computation: Computation) -> None:
        """From whatever thread ended it."""
        self._ended.append((waiter, computation))
        if self._woken:
            return
        self._woken = True
        assert self._loop is not None
        # A loop that is closed has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._tell_all)

    def _tell_all(self) -> None:
        # First: what comes from here on wakes the loop again, whether it is told below or not.
        self._woken = False
        while self._ended:
            waiter, computation = self._ended.popleft()
            if waiter.done():
                continue
            if computation.cancelled():
                waiter.cancel()
                continue
            try:
                waiter.set_result(computation.result())
            except XlmrError as fault:
                waiter.set_exception(fault)

    def _look(self) -> None:
        """Is anybody waiting for too long?"""
        assert self._loop is not None
        now = self._loop.time()
        for waiter, until in self._waiting.items():
            if until <= now and not waiter.done():
                waiter.set_exception(TimeoutError())
        self._looking = bool(self._waiting)
        if self._looking:
            self._loop.call_later(_LOOK_SECONDS, self._look)
