"""What other threads have done reaches the event loop together: it is woken once for all of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class Handover:
    """Belongs to the event loop it is first used on.

    A batch ends many requests at once. asyncio's own bridge would wake the loop for each of them,
    and a call to the system, with the lock of the interpreter changing hands, for each wake.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._woken = False

    async def result(self, future: Future[T], *, within_s: float) -> T:
        """What a future of another thread comes to. It is not cancelled with whoever waits.

        Raises:
            TimeoutError: nothing in so many seconds.
            asyncio.CancelledError: the future was cancelled.
            Exception: the future's own.
        """
        loop = asyncio.get_running_loop()
        self._loop = loop
        waiter: asyncio.Future[T] = loop.create_future()
        timer = loop.call_later(within_s, _late, waiter)
        future.add_done_callback(partial(self._tell, waiter))
        try:
            return await waiter
        finally:
            timer.cancel()

    def _tell(self, waiter: asyncio.Future[T], future: Future[T]) -> None:
        """From whatever thread ended the future."""
        self._waiting.append((waiter, future))
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
        while self._waiting:
            _settle(*self._waiting.popleft())


def _settle(waiter: asyncio.Future[Any], future: Future[Any]) -> None:
    if waiter.done():
        return
    try:
        fault = future.exception()
    except CancelledError:
        waiter.cancel()
        return
    if fault is not None:
        waiter.set_exception(fault)
    else:
        waiter.set_result(future.result())


def _late(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
