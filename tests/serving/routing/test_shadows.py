"""A version that reads along: seen by nobody who asks."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.errors import CancelledError, UnavailableError
from xlmr.registry.rollout.assignment import Shadow, assign
from xlmr.registry.rollout.evidence import CANDIDATE, LIVE, Counts, Pairs
from xlmr.serving.dataplane import ClassifyOptions, Order, Question
from xlmr.serving.routing.shadows import Copy, Shadows, Share
from xlmr.types import Hidden, Quota

ALL = Shadow("1", "2", 10_000, "s")


def drops(house: Any, reason: str) -> float:
    return house.metrics.value("xlmr_shadow_drops_total", reason=reason)


def outcomes(house: Any, outcome: str) -> float:
    return house.metrics.value("xlmr_shadow_requests_total", outcome=outcome)


def test_both_versions_are_counted_and_compared(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2")
        house.plane.routes.set("router", ALL, counting())
        texts = ["hello", "hello world where", "привет", "привет мир где", "世界", "世界 你好 我"]
        said: dict[str, dict[str, str]] = {"1": {}, "2": {}}
        for version, by_text in said.items():
            for text in texts:
                answered = await house.ask(text, model=f"router@{version}")
                by_text[text] = answered.outcomes[0].answer.label
        for text in texts:
            assert (await house.ask(text)).model.version == "1"
        await house.shadows()
        found = house.counted()
        for arm, version in ((LIVE, "1"), (CANDIDATE, "2")):
            labels = list(said[version].values())
            counts = found.counts(arm)
            assert counts.units == len(texts)
            assert counts.labels == {label: labels.count(label) for label in labels}
            assert found.counts(arm, ["ru"]).units == 2
        differ = [said["1"][text] != said["2"][text] for text in texts]
        assert found.paired() == Pairs(compared=len(texts), disagreed=sum(differ))
        assert found.pairs["zh"] == Pairs(compared=2, disagreed=sum(differ[4:]))
        assert outcomes(house, "disagreed") == sum(differ)
        assert outcomes(house, "agreed") == len(texts) - sum(differ)
        assert house.metrics.value("xlmr_requests_total", version="2") == len(texts)
        assert len(house.log.records) == 3 * len(texts)

    asyncio.run(story())


def test_what_is_not_drawn_is_counted_for_nobody(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2")
        route = Shadow("1", "2", 5000, "s")
        house.plane.routes.set("router", route, counting())
        ids = [f"r{n}" for n in range(12)]
        drawn = [bool(assign(route, caller="", request_id=id).shadows) for id in ids]
        for id in ids:
            await house.ask("hello", id=id)
        await house.shadows()
        found = house.counted()
        assert 0 < sum(drawn) < len(ids)
        assert found.counts(LIVE).units == found.counts(CANDIDATE).units == sum(drawn)

    asyncio.run(story())


def no_number(hidden: Hidden) -> Hidden:
    return Hidden(hidden.hidden_TD * np.float32("inf"), hidden.starts)


def fail(batch: Any) -> None:
    raise RuntimeError("broken")


def test_what_goes_wrong_in_the_shadow_is_only_counted(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2")
        house.plane.routes.set("router", ALL, counting())
        house.willed["2"].before = fail
        assert (await house.ask("hello")).model.version == "1"
        await house.shadows()
        house.willed["2"].before = lambda batch: None
        house.willed["2"].after = no_number
        assert (await house.ask("世界")).model.version == "1"
        await house.shadows()
        found = house.counted()
        assert found.arms[CANDIDATE] == {
            "en": Counts(units=1, events={"5xx": 1}),
            "zh": Counts(units=1, events={"5xx": 1, "non_finite": 1}),
        }
        assert not found.counts(LIVE).events
        assert found.pairs == {}
        assert outcomes(house, "failed") == 2
        assert [record.code for record in house.log.records] == ["ok", "ok"]

    asyncio.run(story())


def test_a_live_version_that_fails_is_compared_with_one_that_does_not(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2")
        house.plane.routes.set("router", ALL, counting())
        house.willed["1"].before = fail
        with pytest.raises(Exception, match="runtime failed"):
            await house.ask("世界")
        await house.shadows()
        found = house.counted()
        assert found.arms[LIVE] == {"zh": Counts(units=1, events={"5xx": 1})}
        assert found.counts(CANDIDATE).units == 1
        assert not found.counts(CANDIDATE).events
        assert outcomes(house, "not_comparable") == 1

    asyncio.run(story())


def test_no_cache_is_asked_and_nobody_is_charged(planes_of, counting):
    async def story() -> None:
        # Enough for one request of three tokens, and not for a copy of it as well.
        quota = Quota(tokens_per_s=1e-6, token_burst=5.5)
        house = planes_of("1", "2", cached=True, quota=quota)
        house.plane.routes.set("router", ALL, counting())
        for _ in range(3):
            await house.ask("hello")
            await house.shadows()
        assert (house.willed["1"].runs, house.willed["2"].runs) == (1, 3)
        assert house.counted().counts(CANDIDATE).units == 3
        assert house.metrics.value("xlmr_cache_hits_total") == 2
        assert house.metrics.value("xlmr_quota_refusals_total") == 0

    asyncio.run(story())


def test_speed_is_compared_where_both_computed(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2", cached=True)
        house.plane.routes.set("router", ALL, counting(objective_ms=1e-6))
        for expected in (1, 0):
            await house.ask("hello")
            await house.shadows()
            found = house.counted()
            for arm in (LIVE, CANDIDATE):
                assert found.counts(arm).events.get("over_objective", 0) == expected

    asyncio.run(story())


def test_texts_that_were_refused_are_not_read_again(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2")
        house.plane.routes.set("router", ALL, counting())
        await house.ask("\ud800", "привет", "x" * 6000)
        await house.shadows()
        found = house.counted()
        assert found.counts(CANDIDATE, ["ru"]).units == found.counts(LIVE, ["ru"]).units == 1
        assert found.paired().compared == 1

    asyncio.run(story())


def test_copies_wait_until_nothing_else_is_computed(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2")
        live, candidate = house.willed["1"], house.willed["2"]
        live.gate.clear()
        held = asyncio.create_task(house.ask("hello", model="router@1"))
        await asyncio.to_thread(live.entered.acquire, timeout=10)
        house.plane.shadows.offer(copy_of(counting(), "hello"))
        await asyncio.sleep(0.1)
        assert candidate.runs == 0
        assert not house.plane.pool.versions["router"]["1"].batcher.idle
        live.gate.set()
        await held
        await house.shadows()
        assert candidate.runs == 1

    asyncio.run(story())


def until_given_up(runtime: Any) -> Any:
    """Has a runtime compute its next text until nobody waits for it."""

    def hold(batch: Any) -> None:
        runtime.before = lambda batch: None
        end = time.monotonic() + 30
        while not batch.given_up[0]:
            assert time.monotonic() < end
            time.sleep(0.001)
        raise CancelledError("given up")

    runtime.before = hold


@pytest.mark.parametrize("asked", ["router", "router@2"])
def test_a_copy_gives_way_to_callers_and_is_read_again(planes_of, counting, caplog, asked):
    async def story() -> None:
        house = planes_of("1", "2")
        house.plane.routes.set("router", ALL, counting())
        candidate = house.willed["2"]
        until_given_up(candidate)
        await house.ask("привет")
        await asyncio.to_thread(candidate.entered.acquire, timeout=10)
        # On the copy's own engine it is answered only if the copy has ended.
        await house.ask("hello", model=asked)
        await house.shadows()
        found = house.counted()
        assert found.counts(CANDIDATE, ["ru"]).units == found.counts(LIVE, ["ru"]).units == 1
        assert found.counts(CANDIDATE).units == (2 if asked == "router" else 1)
        assert house.metrics.value("xlmr_shadow_interruptions_total") == 1
        assert house.metrics.value("xlmr_shadow_drops_total") == 0
        assert house.metrics.value("xlmr_engine_faults_total") == 0
        assert caplog.records == []

    asyncio.run(story())


@pytest.mark.parametrize("computed", [True, False])
def test_a_copy_that_gave_way_after_its_objective_was_too_slow(planes_of, counting, computed):
    async def story() -> None:
        house = planes_of("1", "2")
        candidate, stage = house.willed["2"], counting(objective_ms=1e-6)
        until_given_up(candidate)
        copy = copy_of(stage, "hello")
        house.plane.shadows.offer(replace(copy, seconds=0.0 if computed else None))
        await asyncio.to_thread(candidate.entered.acquire, timeout=10)
        await house.ask("hello", model="router@1")
        await house.shadows()
        found, events = house.counted(), {"over_objective": 1} if computed else {}
        assert found.counts(CANDIDATE).units == found.counts(LIVE).units == 1
        assert found.counts(CANDIDATE).events == events
        assert not found.counts(LIVE).events
        assert candidate.runs == (1 if computed else 2)

    asyncio.run(story())


def test_a_copy_that_gives_way_for_too_long_is_dropped(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2")
        lane, candidate = Lane(house), house.willed["2"]
        until_given_up(candidate)
        lane.shadows.offer(copy_of(counting(), "hello"))
        await asyncio.to_thread(candidate.entered.acquire, timeout=10)
        lane.now += 6.0
        lane.shadows.give_way()
        await lane.done()
        assert candidate.runs == 1
        assert drops(house, "busy") == 1
        assert house.counted().arms == {}
        lane.shadows.close()

    asyncio.run(story())


def test_a_version_that_never_returns_holds_up_nobody(house_of, models, counting):
    with house_of("router") as house:
        pool = house.plane.pool
        pool.point("router", "live", pool.models["router"].ref.version)
        live = pool.models["router"].ref.version
        candidate = pool.load(Order(directory=models / "classify", name="router", version="2"))
        hangs = candidate.engine.runtimes[0].runtime
        hangs.forget()
        hangs.gate.clear()
        route = Shadow(live, "2", 10_000, "s")
        house.plane.routes.set("router", route, counting())
        assert house.classify(model="router", input="hello").status_code == 200
        assert hangs.entered.acquire(timeout=10)
        # It hangs now, and the next copies wait behind it.
        for _ in range(5):
            reply = house.classify(model="router", input="hello")
            assert reply.json()["model"]["version"] == live
        assert house.plane.idle
        house.server.drain()
        house.thread.join(20)
        assert not house.thread.is_alive()
        assert not hangs.gate.is_set()
        dropped = house.metrics.value("xlmr_shadow_drops_total", reason="draining")
        assert dropped == 6
        assert house.plane.tally.drain(now=0.0) == []
        hangs.gate.set()


def test_a_candidate_that_hangs_takes_no_server_with_it(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2", "3")
        house.plane.routes.set("router", ALL, counting())
        hangs = house.willed["2"]
        hangs.gate.clear()
        await house.ask("hello")
        await asyncio.to_thread(hangs.entered.acquire, timeout=10)
        # As after two minutes.
        batcher = house.plane.pool.versions["router"]["2"].batcher
        batcher._pulses[:] = [-1e9]
        assert not batcher.alive
        assert house.plane.ready
        # Another rollout begins while the hanging version is on its way out.
        house.plane.shadows._task.cancel()
        route = Shadow("1", "3", 10_000, "t")
        house.plane.routes.set("router", route, counting(salt="t"))
        assert not house.plane.ready
        house.plane.pool.unload("router", "2")
        assert house.plane.ready
        await house.ask("hello")
        await house.shadows()
        (drained,) = house.plane.tally.drain(now=0.0)
        assert drained.salt == "t"
        assert drained.evidence.counts(CANDIDATE).units == 1
        hangs.gate.set()

    asyncio.run(story())


def copy_of(counting: Any, *items: str) -> Copy:
    question = Question(id="r", task="classify", items=items, options=ClassifyOptions())
    return Copy(question, "router@2", counting, (), (), None)


class Lane:
    """A lane with a clock of one's own, on which time passes only while the lane waits for it."""

    def __init__(self, house: Any) -> None:
        self.now = 0.0
        self.shadows = Shadows(
            house.plane.pool,
            house.plane.tally,
            metrics=house.metrics,
            identify=house.plane.shadows._identify,
            clock=lambda: self.now,
            sleep=self._rest,
        )

    async def _rest(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)

    async def done(self) -> None:
        """Until nothing waits and nothing is read."""
        end = time.monotonic() + 60
        while not self.shadows.idle:
            assert time.monotonic() < end
            await asyncio.sleep(0.002)


def test_copies_take_their_share_of_time_and_old_ones_are_dropped(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2")
        lane, began = Lane(house), []

        def take_a_second(batch: Any) -> None:
            began.append(lane.now)
            lane.now += 1.0

        house.willed["2"].before = take_a_second
        for _ in range(3):
            lane.shadows.offer(copy_of(counting(shadow_capacity=0.25), "hello"))
        await lane.done()
        # A quarter of a second was saved up; the first one leaves a debt of three quarters.
        assert began[0] == 0.0
        assert 3.0 <= began[1] <= 3.6
        assert len(began) == 2
        assert drops(house, "capacity") == 1
        lane.shadows.offer(copy_of(counting(shadow_capacity=0.0), "hello"))
        await lane.done()
        assert drops(house, "capacity") == 2
        lane.shadows.close()

    asyncio.run(story())


def test_what_is_too_much_or_too_late_or_gone_is_dropped(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2")
        lane, stage = Lane(house), counting()
        lane.shadows.offer(copy_of(stage, *["x" * 200_000] * 6))
        assert drops(house, "full") == 1
        live = house.willed["1"]
        live.gate.clear()
        held = asyncio.create_task(house.ask("hello", model="router@1"))
        await asyncio.to_thread(live.entered.acquire, timeout=10)
        for _ in range(70):
            lane.shadows.offer(copy_of(stage, "hello"))
        assert drops(house, "full") == 7
        await lane.done()
        assert drops(house, "busy") == 64
        live.gate.set()
        await held
        house.plane.pool.unload("router", "2")
        lane.shadows.offer(copy_of(stage, "hello"))
        await lane.done()
        assert drops(house, "not_loaded") == 1
        lane.shadows.close()
        lane.shadows.offer(copy_of(stage, "hello"))
        assert drops(house, "draining") == 1
        assert house.counted().arms == {}

    asyncio.run(story())


def test_want_of_room_says_nothing_of_a_version(planes_of, counting):
    async def story() -> None:
        house = planes_of("1", "2")
        lane = Lane(house)

        async def refuse(*_: Any) -> Any:
            raise UnavailableError("full", reason="queue_full")

        lane.shadows._computing.answers = refuse
        lane.shadows.offer(copy_of(counting(), "hello"))
        await lane.done()
        assert drops(house, "busy") == 1
        assert house.counted().arms == {}
        lane.shadows.close()

    asyncio.run(story())


@given(
    st.floats(0.0, 1.0),
    st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 2.0)), max_size=40),
)
def test_never_more_than_the_share_of_time_is_used(share: float, steps: Any) -> None:
    now, used, most = 0.0, 0.0, 0.0
    bucket = Share(now)
    for passed, seconds in steps:
        now += passed
        if bucket.left_s(share, now) > 0.0:
            assert used <= share * (now + 1.0) + 1e-6
            bucket.use(seconds)
            used, now, most = used + seconds, now + seconds, max(most, seconds)
    assert used <= share * (now + 1.0) + most + 1e-6


def test_who_is_told_of_other_answers_gets_ids_and_labels(planes_of, counting, monkeypatch):
    async def story() -> None:
        house = planes_of("1", "2")
        told: list[tuple[str, str, str]] = []
        monkeypatch.setattr(
            house.plane.shadows, "_on_disagree", lambda *said: told.append(said), raising=True
        )
        house.plane.routes.set("router", ALL, counting())
        texts = ["hello", "hello world where", "привет", "привет мир где", "世界", "世界 你好 我"]
        expected = []
        for number, text in enumerate(texts):
            live, other = [
                (await house.ask(text, model=f"router@{version}")).outcomes[0].answer.label
                for version in ("1", "2")
            ]
            await house.ask(text, id=f"r{number}")
            if live != other:
                expected.append((f"r{number}-0", "2", other))
        await house.shadows()
        assert told == expected
        assert 0 < len(told) == house.counted().paired().disagreed

    asyncio.run(story())
