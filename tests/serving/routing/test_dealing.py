"""Who answers a bare name, and what is counted of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from xlmr.errors import (
    DeadlineError,
    EngineError,
    InputError,
    NonFiniteError,
    TaskError,
    UnavailableError,
)
from xlmr.registry.rollout.assignment import Canary, Shadow, Single, Weighted, assign
from xlmr.registry.rollout.evidence import CANDIDATE, LIVE, Counts
from xlmr.serving.dataplane import TokenizeOptions
from xlmr.types import Hidden

HALF = Canary("1", "2", 5000, "s")
ALL = Canary("1", "2", 10_000, "s")


def ids_of(route: Any, arm: str, number: int) -> list[str]:
    """Ids of requests that a route gives to an arm."""
    found = (f"r{n}" for n in range(10_000))
    return [id for id in found if assign(route, caller="", request_id=id).arm == arm][:number]


def no_number(hidden: Hidden) -> Hidden:
    return Hidden(np.full_like(hidden.hidden_TD, np.nan), hidden.starts)


def fail(batch: Any) -> None:
    raise RuntimeError("broken")


def test_a_bare_name_and_live_follow_the_route_and_nothing_else_does(planes_of):
    async def story() -> None:
        house = planes_of("1", "2", "3")
        house.plane.pool.point("router", "old", "3")
        house.plane.routes.set("router", HALF)
        for arm, version in ((LIVE, "1"), (CANDIDATE, "2")):
            (id,) = ids_of(HALF, arm, 1)
            for model, expected in (
                ("router", version),
                ("router@live", version),
                (None, version),
                ("router@1", "1"),
                ("router@3", "3"),
                ("router@old", "3"),
            ):
                answered = await house.ask("hello", id=id, model=model)
                record = house.log.records[-1]
                assert answered.model.version == record.version == expected, (arm, model)
        assert house.metrics.value("xlmr_requests_total", model="router", version="2") == 3
        for arm in (LIVE, CANDIDATE):
            assert house.metrics.value("xlmr_route_requests_total", model="router", arm=arm) == 3
        house.plane.routes.drop("router")
        assert (await house.ask("hello", id=id)).model.version == "1"
        assert house.plane.routes.routes == {}

    asyncio.run(story())


def test_a_route_to_one_version_leads_there_whatever_is_live(planes_of):
    async def story() -> None:
        house = planes_of("1", "2")
        for version in ("1", "2", "7"):
            house.plane.routes.set("router", Single(version))
            expected = "1" if version == "7" else version
            assert (await house.ask("hello")).model.version == expected
        # The usual case costs nothing: where the live version answers anyway, nothing is dealt.
        assert house.metrics.value("xlmr_route_requests_total") == 2

    asyncio.run(story())


def test_only_reading_tokens_is_the_live_versions(planes_of):
    async def story() -> None:
        house = planes_of("1", "2")
        house.plane.routes.set("router", ALL)
        question = {"task": "tokenize", "options": TokenizeOptions()}
        house.plane.answer = house.plane.tokenize
        assert (await house.ask("hello", **question)).model.version == "1"

    asyncio.run(story())


def test_both_arms_are_counted_by_language_with_what_they_said(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2")
        house.plane.routes.set("router", HALF, counting(low_confidence_below=1.01))
        said: dict[str, dict[str, int]] = {LIVE: {}, CANDIDATE: {}}
        for arm, number in ((LIVE, 5), (CANDIDATE, 3)):
            for id in ids_of(HALF, arm, number):
                answered = await house.ask("привет мир", "hello", id=id)
                label = answered.outcomes[0].answer.label
                said[arm][label] = said[arm].get(label, 0) + 1
        found = house.counted()
        assert found.arms[LIVE] == {
            "ru": Counts(units=5, events={"low_confidence": 5}, labels=said[LIVE])
        }
        assert found.arms[CANDIDATE] == {
            "ru": Counts(units=3, events={"low_confidence": 3}, labels=said[CANDIDATE])
        }
        assert house.counted().arms == {}

    asyncio.run(story())


def test_callers_are_dealt_and_counted_by_name(planes_of, counting, caller):
    async def story() -> None:
        house = planes_of("1", "2")
        route = Canary("1", "2", 5000, "s", unit="caller")
        house.plane.routes.set("router", route, counting(unit="caller"))
        names = [f"key-{n}" for n in range(6)]
        arms = {name: assign(route, caller=name, request_id="").arm for name in names}
        assert set(arms.values()) == {LIVE, CANDIDATE}
        for name in names:
            for turn in range(3):
                await house.ask("hello", id=f"{name}-{turn}", caller=caller(name))
        found = house.counted()
        for arm in (LIVE, CANDIDATE):
            assert found.counts(arm).units == list(arms.values()).count(arm)

    asyncio.run(story())


@pytest.mark.parametrize(("limit_ms", "over"), [(1e-6, 2), (1e9, 0), (None, 0)])
def test_what_takes_longer_than_the_objective_is_counted(planes_of, counting, limit_ms, over):
    async def story() -> None:
        house = planes_of("1", "2")
        house.plane.routes.set("router", HALF, counting(objective_ms=limit_ms))
        for id in ids_of(HALF, CANDIDATE, 2):
            await house.ask("hello", id=id)
        assert house.counted().counts(CANDIDATE).events.get("over_objective", 0) == over

    asyncio.run(story())


def test_a_slow_candidate_is_over_the_objective_in_the_shadow_and_out_of_it(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2")
        house.willed["2"].before = lambda batch: time.sleep(0.06)
        for epoch, route in enumerate((Shadow("1", "2", 10_000, "s"), ALL)):
            house.plane.routes.set("router", route, counting(epoch=epoch, objective_ms=50.0))
            await house.ask("hello")
            await house.shadows()
            counts = house.counted().counts(CANDIDATE)
            assert (counts.units, counts.events.get("over_objective")) == (1, 1)

    asyncio.run(story())


def test_a_version_that_is_not_loaded_leaves_its_requests_to_the_live_one_uncounted(
    planes_of, counting
):
    async def story() -> None:
        house = planes_of("1", "2")
        route = Canary("1", "7", 5000, "s")
        house.plane.routes.set("router", route, counting())
        for arm in (LIVE, CANDIDATE):
            (id,) = ids_of(route, arm, 1)
            assert (await house.ask("hello", id=id)).model.version == "1"
        assert house.fallbacks("not_loaded") == 1
        # Nor are the live version's own: one side alone would look like a router that deals wrong.
        assert house.counted().arms == {}
        house.plane.routes.set("router", Single("7"), counting())
        assert (await house.ask("hello")).model.version == "1"

    asyncio.run(story())


def test_a_version_that_lacks_a_task_leaves_it_to_the_live_one(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "vectors")
        route = Canary("1", "vectors", 10_000, "s")
        house.plane.routes.set("router", route, counting())
        assert (await house.ask("hello")).model.version == "1"
        with pytest.raises(TaskError):
            await house.ask("hello", task="tag")
        assert house.counted().arms == {}

    asyncio.run(story())


def test_a_candidate_that_fails_in_one_language_costs_no_answer(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2")
        predictor = house.plane.pool.models["router"].predictor
        (encoding,) = predictor.prepare("classify", ["世界"]).encodings
        chinese = set(encoding.ids[1:-1])

        def refuse(batch: Any) -> None:
            if chinese & set(batch.ids_T.tolist()):
                raise RuntimeError("broken")

        house.willed["2"].before = refuse
        house.plane.routes.set("router", HALF, counting())
        for text in ("hello", "世界"):
            for id in ids_of(HALF, LIVE, 3):
                assert (await house.ask(text, id=id)).model.version == "1"
            for id in ids_of(HALF, CANDIDATE, 2):
                version = (await house.ask(text, id=id)).model.version
                assert version == ("1" if text == "世界" else "2")
                assert house.log.records[-1].version == version
        found = house.counted()
        assert {name: c.units for name, c in found.arms[LIVE].items()} == {"en": 3, "zh": 3}
        assert found.arms[CANDIDATE]["zh"] == Counts(units=2, events={"5xx": 2})
        assert found.arms[CANDIDATE]["en"].units == 2
        assert not found.arms[CANDIDATE]["en"].events
        assert house.fallbacks("fault") == 2
        assert all(state.requests == 0 for state in house.plane.pool.states())

    asyncio.run(story())


def test_what_is_no_number_is_never_told(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2", cached=True)
        house.willed["2"].after = no_number
        with pytest.raises(NonFiniteError):
            await house.ask("hello", model="router@2")
        assert house.log.records[-1].code == "non_finite"
        house.plane.routes.set("router", ALL, counting())
        assert (await house.ask("hello")).model.version == "1"
        counts = house.counted().arms[CANDIDATE]["en"]
        assert counts == Counts(units=1, events={"5xx": 1, "non_finite": 1})
        house.willed["1"].after = no_number
        with pytest.raises(NonFiniteError):
            await house.ask("привет")

    asyncio.run(story())


def test_a_live_version_that_fails_is_counted_and_not_replaced(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2")
        house.willed["1"].before = fail
        house.plane.routes.set("router", HALF, counting())
        (id,) = ids_of(HALF, LIVE, 1)
        with pytest.raises(EngineError):
            await house.ask("世界", id=id)
        assert house.counted().arms == {LIVE: {"zh": Counts(units=1, events={"5xx": 1})}}
        assert house.fallbacks("fault") == 0

    asyncio.run(story())


def test_a_deadline_that_passed_is_the_versions_and_a_hang_up_is_nobodys(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2")
        house.plane.routes.set("router", ALL, counting())
        slow = house.willed["2"]
        slow.gate.clear()
        held = asyncio.create_task(house.ask("hello"))
        await asyncio.to_thread(slow.entered.acquire, timeout=10)
        # A tenth of a second is longer than the batch seems to need, and shorter than it will.
        late = asyncio.create_task(house.ask("世界", deadline=time.monotonic() + 0.3))
        await asyncio.sleep(0.4)
        slow.gate.set()
        with pytest.raises(DeadlineError):
            await late
        await held
        slow.gate.clear()
        slow.entered.acquire(blocking=False)
        gone = asyncio.create_task(house.ask("привет"))
        await asyncio.to_thread(slow.entered.acquire, timeout=10)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        slow.gate.set()
        found = house.counted()
        assert found.arms[CANDIDATE]["zh"] == Counts(units=1, events={"timeout": 1})
        assert set(found.arms[CANDIDATE]) == {"en", "zh"}

    asyncio.run(story())


def test_shares_of_an_experiment_are_counted_under_their_versions(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2", "3")
        route = Weighted({"1": 1.0, "2": 2.0, "3": 1.0}, "s", unit="request")
        house.plane.routes.set("router", route, counting())
        expected: dict[str, int] = {}
        for n in range(24):
            version = assign(route, caller="", request_id=f"r{n}").arm
            expected[version] = expected.get(version, 0) + 1
            assert (await house.ask("hello", id=f"r{n}")).model.version == version
        found = house.counted()
        assert {arm: found.counts(arm).units for arm in found.arms} == expected
        assert set(expected) == {"1", "2", "3"}
        for version, number in expected.items():
            assert house.metrics.value("xlmr_route_requests_total", arm=version) == number

    asyncio.run(story())


def test_after_promotion_the_version_is_counted_under_its_name(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2")
        house.plane.routes.set("router", Single("2"), counting(epoch=5))
        await house.ask("hello")
        (drained,) = house.plane.tally.drain(now=125.0)
        assert drained.epoch == 5
        assert drained.evidence.counts("2").units == 1
        assert [(minute, w.units) for minute, w in drained.minutes.items()] == [(2, 1)]

    asyncio.run(story())


def test_refusals_that_are_nobodys_fault_are_no_units(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2")
        house.plane.routes.set("router", ALL, counting())
        for items, task in ((), "classify"), (("\ud800",), "classify"), (("hello",), "tag"):
            with pytest.raises((InputError, TaskError)):
                await house.ask(*items, task=task)
        house.plane.drain()
        with pytest.raises(UnavailableError):
            await house.ask("hello")
        assert house.counted().arms == {}
        assert all(state.requests == 0 for state in house.plane.pool.states())

    asyncio.run(story())


def test_a_route_in_the_shadow_answers_with_the_live_version(planes_of):
    async def story() -> None:
        house = planes_of("1", "2")
        house.plane.routes.set("router", Shadow("1", "2", 10_000, "s"))
        assert (await house.ask("hello")).model.version == "1"
        assert house.willed["2"].runs == 0

    asyncio.run(story())
