"""What is known is not computed again, what is under way only once, and nobody waits in vain."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from xlmr.errors import EngineError, InputError, UnavailableError
from xlmr.model.prepared import ClassifyOptions, RerankOptions, TagOptions
from xlmr.serving.cache import AnswerCache, Asked
from xlmr.serving.cache_store import Store
from xlmr.serving.flights import Urgency
from xlmr.telemetry.metrics import Metrics
from xlmr.types import Accounting, Classification, LabelScore, Language, Ranked, Tagging

LANGUAGE = Language("en", 0.5)


def said(text: Any, **fields: Any) -> Classification:
    """An answer by which the text it was computed for can be told."""
    labels = (LabelScore(f"{len(str(text))}", 0.5),)
    return Classification(labels, Accounting(1, 1, False, 1, 0), **fields)


async def inline(size: int, work: Any, *arguments: Any) -> Any:
    return work(*arguments)


class Engine:
    """Computes what it is asked, and remembers what that was; can be held and broken."""

    def __init__(self) -> None:
        self.computed: list[list[Any]] = []
        self.faulty: list[Any] = []
        self.faults: dict[int, Exception] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.answer = said

    def of(self, asked: Asked) -> Any:
        async def compute(places: Sequence[int]) -> dict[int, Any]:
            items = [asked.items[place] for place in places]
            run = len(self.computed)
            self.computed.append(items)
            await self.gate.wait()
            if run in self.faults:
                raise self.faults[run]
            return {
                place: (self.answer(item), LANGUAGE)
                for place, item in zip(places, items, strict=True)
                if item not in self.faulty
            }

        return compute


class Shared:
    """Another server's memory."""

    def __init__(self, **values: bytes) -> None:
        self.values: dict[bytes, bytes] = {}
        self.asked: list[list[bytes]] = []

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.asked.append(list(keys))
        await asyncio.sleep(0)
        return [self.values.get(key) for key in keys]

    def put_many(self, values: Mapping[bytes, bytes]) -> None:
        self.values.update(values)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def cache(metrics: Metrics) -> AnswerCache:
    return AnswerCache(Store(100_000), metrics=metrics)


def asking(*items: Any, **fields: Any) -> Asked:
    return Asked(
        **(
            {"space": b"s", "items": items, "options": ClassifyOptions()}
            | {"places": range(len(items))}
            | fields
        )
    )


async def ask(cache: AnswerCache, engine: Engine, *items: Any, **fields: Any) -> dict[int, Any]:
    asked = asking(*items, **fields)
    found = await cache.answer(asked, engine.of(asked), inline)
    return {place: found[place][0].labels[0].label for place in sorted(found)}


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_only_what_is_not_known_is_computed(cache, metrics):
    async def run() -> None:
        engine = Engine()
        assert await ask(cache, engine, "a", "bb") == {0: "1", 1: "2"}
        assert await ask(cache, engine, "bb", "ccc", "a", "dddd") == {
            0: "2",
            1: "3",
            2: "1",
            3: "4",
        }
        assert await ask(cache, engine, "dddd") == {0: "4"}
        assert engine.computed == [["a", "bb"], ["ccc", "dddd"]]

    asyncio.run(run())
    assert metrics.value("xlmr_cache_hits_total", where="memory") == 3
    assert metrics.value("xlmr_cache_misses_total") == 4
    assert metrics.value("xlmr_cache_bytes") > 4 * 16
    assert cache.in_flight == 0


def test_places_that_are_not_asked_for_are_left_alone(cache):
    async def run() -> None:
        engine = Engine()
        assert await ask(cache, engine, "a", "bb", "ccc", places=(0, 2)) == {0: "1", 2: "3"}
        assert engine.computed == [["a", "ccc"]]

    asyncio.run(run())


def test_a_text_twice_in_one_request_is_computed_once(cache, metrics):
    async def run() -> None:
        engine = Engine()
        assert await ask(cache, engine, "a", "bb", "a") == {0: "1", 1: "2", 2: "1"}
        assert engine.computed == [["a", "bb"]]

    asyncio.run(run())
    assert metrics.value("xlmr_cache_joins_total") == 1


def test_identical_texts_under_way_are_computed_once_across_requests(cache, metrics):
    async def run() -> None:
        engine = Engine()
        engine.gate.clear()
        asks = [asyncio.create_task(ask(cache, engine, "a", "b" * (n + 2))) for n in range(5)]
        await settle()
        engine.gate.set()
        answers = await asyncio.gather(*asks)
        assert answers == [{0: "1", 1: f"{n + 2}"} for n in range(5)]
        assert sum(items.count("a") for items in engine.computed) == 1

    asyncio.run(run())
    assert metrics.value("xlmr_cache_joins_total") == 4
    assert metrics.value("xlmr_cache_misses_total") == 6


def test_two_requests_that_wait_for_each_other_both_get_their_answers(cache):
    async def run() -> None:
        engine = Engine()
        engine.gate.clear()
        one = asyncio.create_task(ask(cache, engine, "a", "bb"))
        await settle()
        two = asyncio.create_task(ask(cache, engine, "ccc", "bb"))
        three = asyncio.create_task(ask(cache, engine, "a", "ccc"))
        await settle()
        engine.gate.set()
        answers = await asyncio.wait_for(asyncio.gather(one, two, three), 10)
        assert answers == [{0: "1", 1: "2"}, {0: "3", 1: "2"}, {0: "1", 1: "3"}]
        assert sorted(itertools.chain(*engine.computed)) == ["a", "bb", "ccc"]

    asyncio.run(run())


def test_a_leader_that_gives_up_hands_over_to_one_of_those_who_wait(cache):
    async def run() -> None:
        engine = Engine()
        engine.gate.clear()
        leader = asyncio.create_task(ask(cache, engine, "a"))
        await settle()
        others = [asyncio.create_task(ask(cache, engine, "a")) for _ in range(3)]
        await settle()
        leader.cancel()
        await settle()
        assert engine.computed == [["a"], ["a"]]
        others[0].cancel()
        await settle()
        assert engine.computed == [["a"], ["a"], ["a"]]
        engine.gate.set()
        assert await asyncio.gather(*others[1:]) == [{0: "1"}] * 2
        assert len(engine.computed) == 3

    asyncio.run(run())
    assert cache.in_flight == 0


def test_one_that_is_told_to_lead_and_leaves_in_the_same_moment_passes_it_on(cache):
    async def run() -> None:
        engine = Engine()
        engine.gate.clear()
        leader, heir, last = (asyncio.create_task(ask(cache, engine, "a")) for _ in range(3))
        await settle()
        leader.cancel()
        await asyncio.sleep(0)
        heir.cancel()
        await settle()
        engine.gate.set()
        assert await asyncio.wait_for(last, 10) == {0: "1"}

    asyncio.run(run())
    assert cache.in_flight == 0


def test_one_who_no_longer_waits_disturbs_nobody(cache):
    async def run() -> None:
        engine = Engine()
        engine.gate.clear()
        leader, gone, stays = (asyncio.create_task(ask(cache, engine, "a")) for _ in range(3))
        await settle()
        gone.cancel()
        await settle()
        engine.gate.set()
        assert await asyncio.gather(leader, stays) == [{0: "1"}] * 2
        assert engine.computed == [["a"]]

    asyncio.run(run())


def test_a_fault_of_the_engine_is_told_to_all_who_wait_and_forgotten(cache):
    async def run() -> None:
        engine = Engine()
        engine.gate.clear()
        engine.faults[0] = EngineError("broken", hint="mend it")
        asks = [asyncio.create_task(ask(cache, engine, "a")) for _ in range(3)]
        await settle()
        engine.gate.set()
        faults = await asyncio.gather(*asks, return_exceptions=True)
        assert [(type(f), f.message, f.hint) for f in faults] == [
            (EngineError, "broken", "mend it")
        ] * 3
        assert len({id(fault) for fault in faults}) == 3
        assert engine.computed == [["a"]]
        assert await ask(cache, engine, "a") == {0: "1"}

    asyncio.run(run())
    assert cache.in_flight == 0


def test_a_refusal_of_one_is_not_that_of_another(cache):
    async def run() -> None:
        engine = Engine()
        engine.gate.clear()
        engine.faults[0] = UnavailableError("your time is over")
        asks = [asyncio.create_task(ask(cache, engine, "a")) for _ in range(3)]
        await settle()
        engine.gate.set()
        first, *others = await asyncio.gather(*asks, return_exceptions=True)
        assert isinstance(first, UnavailableError)
        assert others == [{0: "1"}] * 2
        assert engine.computed == [["a"], ["a"]]

    asyncio.run(run())


def test_a_fault_elsewhere_in_a_request_leaves_what_it_leads_to_others(cache):
    """It waits for an engine that breaks, while another already waits for what it would compute."""

    async def run() -> None:
        engine = Engine()
        engine.gate.clear()
        engine.faults[0] = EngineError("broken")
        breaks = asyncio.create_task(ask(cache, engine, "bad"))
        await settle()
        both = asyncio.create_task(ask(cache, engine, "a", "bad"))
        await settle()
        waits = asyncio.create_task(ask(cache, engine, "a"))
        await settle()
        engine.gate.set()
        faults = await asyncio.gather(breaks, both, waits, return_exceptions=True)
        assert [type(fault) for fault in faults[:2]] == [EngineError] * 2
        assert faults[2] == {0: "1"}

    asyncio.run(run())
    assert cache.in_flight == 0


def test_a_text_that_cannot_be_answered_is_not_kept_and_is_found_at_each_of_its_places(cache):
    async def run() -> None:
        engine = Engine()
        engine.faulty = ["bad"]
        assert await ask(cache, engine, "bad", "a", "bad") == {1: "1"}
        assert engine.computed == [["bad", "a"], ["bad"]]
        assert await ask(cache, engine, "bad") == {}
        assert engine.computed[2:] == [["bad"]]

    asyncio.run(run())
    assert cache.in_flight == 0


@pytest.mark.parametrize(
    ("slow", "urgent"),
    [
        (Urgency(2, math.inf), Urgency(0, math.inf)),
        (Urgency(1, math.inf), Urgency(1, 1e12)),
        (Urgency(1, 1e12 + 1), Urgency(1, 1e12)),
    ],
)
def test_who_is_more_urgent_does_not_wait_for_who_is_less(cache, slow, urgent):
    async def run() -> None:
        engine = Engine()
        engine.gate.clear()
        first = asyncio.create_task(ask(cache, engine, "a", urgency=slow))
        await settle()
        waits = asyncio.create_task(ask(cache, engine, "a", urgency=slow))
        await settle()
        # The more urgent compute it once more, together; who comes later joins them.
        others = [
            asyncio.create_task(ask(cache, engine, "a", "a", urgency=urgency))
            for urgency in (urgent, urgent, slow, urgent._replace(priority=2))
        ]
        await settle()
        assert engine.computed == [["a"], ["a"]]
        engine.gate.set()
        assert await asyncio.gather(first, waits) == [{0: "1"}] * 2
        assert await asyncio.gather(*others) == [{0: "1", 1: "1"}] * 4
        assert len(engine.computed) == 2

    asyncio.run(run())
    assert cache.in_flight == 0


def test_one_who_is_told_to_lead_does_so_before_the_rest_of_what_it_waits_for(cache):
    async def run() -> None:
        engine = Engine()
        engine.gate.clear()
        stays = asyncio.create_task(ask(cache, engine, "bb"))
        gives_up = asyncio.create_task(ask(cache, engine, "a"))
        await settle()
        heir = asyncio.create_task(ask(cache, engine, "bb", "a"))
        await settle()
        gives_up.cancel()
        await settle()
        assert engine.computed == [["bb"], ["a"], ["a"]]
        engine.gate.set()
        assert await asyncio.gather(stays, heir) == [{0: "2"}, {0: "2", 1: "1"}]

    asyncio.run(run())
    assert cache.in_flight == 0


def test_at_its_deadline_one_who_waits_asks_for_itself_and_is_refused_like_everyone(cache):
    async def run() -> None:
        engine = Engine()
        engine.gate.clear()
        sooner = Urgency(1, time.monotonic() + 0.05)
        leader = asyncio.create_task(ask(cache, engine, "a", urgency=sooner))
        await settle()
        engine.faults[1] = UnavailableError("too late")
        # Not so much sooner than the leader's that it would not wait for it.
        soon = Urgency(1, time.monotonic() + 0.02)
        late = asyncio.create_task(ask(cache, engine, "a", urgency=soon))
        while len(engine.computed) < 2:
            await asyncio.sleep(0.005)
        engine.gate.set()
        with pytest.raises(UnavailableError, match="too late"):
            await late
        assert await leader == {0: "1"}

    asyncio.run(run())
    assert cache.in_flight == 0


def test_answers_that_cannot_be_kept_are_still_shared(cache):
    async def run() -> None:
        engine = Engine()
        engine.gate.clear()
        unkept = Tagging((), Accounting(1, 1, False, 1, 0))
        engine.answer = lambda item: unkept
        asked = [asking([0, 5, 2], [0, 5, 2], options=TagOptions()) for _ in range(2)]
        asks = [asyncio.create_task(cache.answer(a, engine.of(a), inline)) for a in asked]
        await settle()
        engine.gate.set()
        for found in await asyncio.gather(*asks):
            assert found == {0: (unkept, LANGUAGE), 1: (unkept, LANGUAGE)}
        assert len(engine.computed) == 1

    asyncio.run(run())


def test_a_rank_is_that_of_the_place_in_this_request(cache):
    async def run() -> None:
        engine = Engine()
        engine.answer = lambda item: Ranked(0, 0.1 * len(item), Accounting(1, 1, False, 1, 0))
        one = asking("a", "bb", options=RerankOptions(query="q"))
        await cache.answer(one, engine.of(one), inline)
        two = asking("ccc", "bb", "a", options=RerankOptions(query="q"))
        found = await cache.answer(two, engine.of(two), inline)
        assert [(found[p][0].index, found[p][0].score) for p in (1, 2)] == [(1, 0.2), (2, 0.1)]

    asyncio.run(run())


def test_different_items_never_share_an_answer(cache):
    """Texts, pairs, words and token ids that look alike, and languages that were said."""
    items = [
        "a",
        "a b",
        ("a", "b"),
        ["a", "b"],
        ("a b", ""),
        ("", "a b"),
        ["a b"],
        [1, 2],
        [12],
        ["12"],
        ["1", "2"],
        "12",
        "",
        "\ud800",
        ("s1:a", "b"),
        ["s1:as1:b"],
    ]

    async def run() -> None:
        engine = Engine()
        await ask(cache, engine, *items)
        assert engine.computed == [items]
        for language in ("de", "fr"):
            await ask(cache, engine, "a", options=ClassifyOptions(languages=[language]))
        assert len(engine.computed) == 3

    asyncio.run(run())


def test_what_another_server_knows_is_not_computed_and_is_kept(metrics):
    async def run() -> None:
        shared, engine = Shared(), Engine()
        secret = b"shared"
        one, two = (
            AnswerCache(Store(100_000), metrics=metrics, shared=shared, secret=secret)
            for _ in range(2)
        )
        await ask(one, engine, "a", "bb")
        assert await ask(two, engine, "bb", "ccc", "bb") == {0: "2", 1: "3", 2: "2"}
        assert await ask(two, engine, "bb", "ccc") == {0: "2", 1: "3"}
        assert engine.computed == [["a", "bb"], ["ccc"]]
        assert [len(keys) for keys in shared.asked] == [2, 2]
        assert len(shared.values) == 3

    asyncio.run(run())
    assert metrics.value("xlmr_cache_hits_total", where="redis") == 1


def test_what_others_kept_and_nobody_can_read_is_computed(metrics):
    async def run() -> None:
        shared, engine = Shared(), Engine()
        one, two = (
            AnswerCache(Store(100_000), metrics=metrics, shared=shared, secret=b"s")
            for _ in range(2)
        )
        await ask(one, engine, "a")
        (key,) = shared.values
        shared.values[key] = b"\x00 another format"
        assert await ask(two, engine, "a") == {0: "1"}
        assert len(engine.computed) == 2

    asyncio.run(run())


def test_a_leader_given_up_while_others_are_asked_hands_over(metrics):
    class Slow(Shared):
        async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
            if not self.asked:
                self.asked.append(list(keys))
                await asyncio.Event().wait()
            return await super().get_many(keys)

    async def run() -> None:
        engine = Engine()
        cache = AnswerCache(Store(100_000), metrics=metrics, shared=Slow(), secret=b"s")
        leader, other = (asyncio.create_task(ask(cache, engine, "a")) for _ in range(2))
        await settle()
        leader.cancel()
        assert await asyncio.wait_for(other, 10) == {0: "1"}

    asyncio.run(run())


class Moody(Engine):
    """Answers, refuses and breaks in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds = itertools.cycle(
            [None, None, UnavailableError("no"), None, EngineError("no"), None, InputError("no")]
        )

    def of(self, asked: Asked) -> Any:
        async def compute(places: Sequence[int]) -> dict[int, Any]:
            await asyncio.sleep(0)
            fault = next(self.kinds)
            if fault is not None:
                raise fault
            return {place: (said(asked.items[place]), LANGUAGE) for place in places}

        return compute

    async def asked_by(self, number: int, cache: AnswerCache) -> None:
        asked = asking(*("x" * (1 + (number * step) % 9) for step in (1, 2, 3)))
        with contextlib.suppress(UnavailableError, EngineError, InputError):
            found = await cache.answer(asked, self.of(asked), inline)
            assert all(found[place][0] == said(item) for place, item in enumerate(asked.items))


def test_chaos_loses_nobody(metrics):
    """Cancelled at any moment, refused, broken: who is still there gets the right answer."""

    async def run() -> None:
        # Room for two entries, so that most is computed anew.
        small, engine = AnswerCache(Store(800), metrics=metrics), Moody()
        tasks = []
        for number in range(2000):
            tasks.append(asyncio.create_task(engine.asked_by(number, small)))
            if number % 3 == 0:
                tasks[(number * 7) % len(tasks)].cancel()
            if number % 5 == 0:
                await asyncio.sleep(0)
        done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
        assert {type(one) for one in done} <= {type(None), asyncio.CancelledError}
        assert sum(one is None for one in done) > 1000
        assert small.in_flight == 0

    asyncio.run(run())
