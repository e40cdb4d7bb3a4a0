"""Results cross from threads to the event loop, each once, whatever the threads do."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest

from xlmr.errors import EngineError
from xlmr.serving.asked import Computation
from xlmr.serving.handover import Handover
from xlmr.types import Encoding

SECONDS = 20.0


def computation() -> Computation:
    """One short text, not computed yet."""
    text = Encoding(ids=(0,), offsets=((0, 0),), segments=(-1,), total_tokens=1, unknown=0)
    return Computation((text,), "all", 0.0, None, 1)


def end(one: Computation, number: int = 1) -> None:
    """As a batch does it."""
    one.vectors[0] = np.array([[number]], np.float32)
    one.end()


async def number_of(handover: Handover, one: Computation, within_s: float = SECONDS) -> int:
    """What it comes to."""
    until = asyncio.get_running_loop().time() + within_s
    (vector,) = await handover.vectors(one, until=until)
    return int(vector[0, 0])


def test_every_result_arrives_where_it_belongs() -> None:
    """Several threads end computations while others begin to wait for theirs."""

    async def gather() -> list[int]:
        handover = Handover()
        all_of_them = [computation() for _ in range(2000)]

        def end_all(share: list[tuple[int, Computation]]) -> None:
            for number, one in share:
                end(one, number)

        numbered = list(enumerate(all_of_them))
        threads = [threading.Thread(target=end_all, args=(numbered[k::4],)) for k in range(4)]
        waiting = []
        for start, one in enumerate(all_of_them):
            if start == 500:
                for thread in threads:
                    thread.start()
            waiting.append(asyncio.ensure_future(number_of(handover, one)))
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
        batch = [computation() for _ in range(100)]
        waiting = [asyncio.ensure_future(number_of(handover, one)) for one in batch]
        await asyncio.sleep(0)

        def end_all() -> None:
            for one in batch:
                end(one)

        thread = threading.Thread(target=end_all)
        thread.start()
        # The loop stands still meanwhile, as it does under load.
        thread.join()
        await asyncio.gather(*waiting)
        return len(woken)

    assert asyncio.run(count()) == 1


def test_a_fault_is_the_computations_own() -> None:
    one = computation()
    one.end(EngineError("own"))
    with pytest.raises(EngineError, match="own"):
        asyncio.run(number_of(Handover(), one))


def test_a_cancelled_computation_cancels_who_waits() -> None:
    one = computation()
    assert one.cancel()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(number_of(Handover(), one))


def test_what_never_ends_is_not_waited_for() -> None:
    """Each until its own time; the others go on waiting."""

    async def wait() -> list[int | BaseException]:
        handover, stays = Handover(), computation()
        waiting = [number_of(handover, computation(), 0.01), number_of(handover, stays)]
        asyncio.get_running_loop().call_later(0.5, end, stays)
        return await asyncio.gather(*waiting, return_exceptions=True)

    late, answered = asyncio.run(wait())
    assert isinstance(late, TimeoutError)
    assert answered == 1


def test_who_comes_when_nobody_waited_is_not_forgotten() -> None:
    async def wait() -> None:
        handover = Handover()
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await number_of(handover, computation(), 0.01)
            await asyncio.sleep(0.25)

    asyncio.run(wait())


def test_a_result_that_comes_late_hurts_nobody() -> None:
    handover, one = Handover(), computation()

    async def wait() -> None:
        with pytest.raises(TimeoutError):
            await number_of(handover, one, 0.01)

    asyncio.run(wait())
    time.sleep(0)
    end(one)
