"""Work beside the event loop, by a thread that no exit waits for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from xlmr.errors import XlmrError

T = TypeVar("T")

logger = logging.getLogger("xlmr.serving.beside")


def in_thread(work: Callable[[], T]) -> Future[T]:
    """Begins it; the future gets what it gives or raises. It cannot be cancelled.

    An executor's threads would be waited for at exit, and opening a model may take minutes.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except XlmrError as fault:
            future.set_exception(fault)
        except Exception as fault:
            logger.exception("work beside the event loop failed")
            future.set_exception(fault)

    threading.Thread(target=run, name="xlmr-beside", daemon=True).start()
    return future
