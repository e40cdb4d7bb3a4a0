from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

from xlmr.serving.urgency import LoopLag, work_in_background


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="a Linux matter")
def test_work_in_the_background_is_inherited_and_spares_the_main_thread():
    seen = []

    def here() -> tuple[int, int]:
        nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        return os.sched_getscheduler(0), nice

    def started() -> None:
        seen.append(here())

    def work() -> None:
        work_in_background()
        started()
        for again in (started, lambda: (work_in_background(), started())):
            child = threading.Thread(target=again)
            child.start()
            child.join(10)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    before = here()
    less = min(before[1] + 5, 19)
    assert seen == [(os.SCHED_BATCH, less)] * 3
    work_in_background()
    assert here() == before


def test_a_loop_that_is_held_up_is_seen_while_it_is_and_forgotten_after():
    async def watch() -> tuple[float, float, float]:
        lag = LoopLag()
        assert lag.seconds() == 0
        await asyncio.sleep(0.06)
        time.sleep(0.3)
        held = lag.seconds()
        await asyncio.sleep(0)
        just_after = lag.seconds()
        while lag.seconds() > 0.1:
            await asyncio.sleep(0.01)
        return held, just_after, lag.seconds()

    held, just_after, later = asyncio.run(watch())
    assert held > 0.2
    assert just_after > 0.2
    assert later <= 0.1


def test_a_request_that_waited_to_be_seen_has_less_time_left(house_of):
    """The loop stands still for longer than the deadline: the request is refused unworked."""
    with house_of("router", default_deadline_ms=300) as house:
        assert house.classify(input="hello").status_code == 200
        before = len(house.gated.texts)
        lag = house.plane._lag
        lag._clock = lambda: time.monotonic() + 10
        refusal = house.classify(input="hello world")
        assert refusal.status_code == 429
        assert len(house.gated.texts) == before
