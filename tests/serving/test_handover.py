"""Results cross from threads to the event loop, each once, whatever the threads do."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future

import pytest

from xlmr.serving.handover import Handover

SECONDS = 20.0


def test_every_result_arrives_where_it_belongs() -> None:
    """Several threads end futures while others begin to wait for theirs."""

    async def gather() -> list[int]:
        handover = Handover()
        futures: list[Future[int]] = [Future() for _ in range(2000)]

        def end(share: list[tuple[int, Future[int]]]) -> None:
            for number, future in share:
                future.set_result(number)

        numbered = list(enumerate(futures))
        threads = [threading.Thread(target=end, args=(numbered[k::4],)) for k in range(4)]
        waiting = []
        for start, future in enumerate(futures):
            if start == 500:
                for thread in threads:
                    thread.start()
            waiting.append(asyncio.ensure_future(handover.result(future, within_s=SECONDS)))
            if start % 50 == 0:
                await asyncio.sleep(0)
        found = await asyncio.gather(*waiting)
        for thread in threads:
            thread.join()
        return found

    assert asyncio.run(gather()) == list(range(2000))


def test_a_batch_wakes_the_loop_once() -> None:
    async def count() -> int:
        loop, woken = asyncio.get_running_loop(), []
        usual = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *given: (woken.append(1), usual(*given))[1]  # type: ignore[method-assign]
        handover = Handover()
        futures: list[Future[int]] = [Future() for _ in range(100)]
        waiting = [asyncio.ensure_future(handover.result(f, within_s=SECONDS)) for f in futures]
        await asyncio.sleep(0)

        def end() -> None:
            for future in futures:
                future.set_result(1)

        thread = threading.Thread(target=end)
        thread.start()
        # The loop stands still meanwhile, as it does under load.
        thread.join()
        await asyncio.gather(*waiting)
        return len(woken)

    assert asyncio.run(count()) == 1


def test_an_exception_is_the_futures_own() -> None:
    async def wait() -> None:
        future: Future[int] = Future()
        future.set_exception(LookupError("own"))
        await Handover().result(future, within_s=SECONDS)

    with pytest.raises(LookupError, match="own"):
        asyncio.run(wait())


def test_a_cancelled_future_cancels_who_waits() -> None:
    async def wait() -> None:
        future: Future[int] = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        await Handover().result(future, within_s=SECONDS)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(wait())


def test_what_never_ends_is_not_waited_for() -> None:
    async def wait() -> None:
        await Handover().result(Future(), within_s=0.01)

    with pytest.raises(TimeoutError):
        asyncio.run(wait())


def test_a_result_that_comes_late_hurts_nobody() -> None:
    handover, future = Handover(), Future[int]()

    async def wait() -> None:
        with pytest.raises(TimeoutError):
            await handover.result(future, within_s=0.01)

    asyncio.run(wait())
    time.sleep(0)
    future.set_result(1)
