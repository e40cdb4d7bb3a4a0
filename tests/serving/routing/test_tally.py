"""What is counted, held against a count that keeps everything."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.registry.rollout.burn import Window
from xlmr.registry.rollout.evidence import CANDIDATE, EVENTS, HARMS, LIVE, Counts, Evidence, Pairs
from xlmr.serving.routing.tally import Seen, Tally

LANGUAGES = st.sampled_from(["de", "sw", "und"])
SEEN = st.builds(
    Seen,
    language=LANGUAGES,
    events=st.lists(st.sampled_from(EVENTS), unique=True, max_size=3).map(tuple),
    label=st.sampled_from([None, "a", "b"]),
)
CALLERS = st.sampled_from(["anonymous", "ann", "bob", "eve"])
REQUEST = st.tuples(st.just("count"), st.sampled_from([LIVE, CANDIDATE, "7"]), SEEN, CALLERS)
PAIR = st.tuples(st.just("pair"), SEEN, SEEN, st.sampled_from([None, True, False]), CALLERS)
STEPS = st.lists(st.one_of(REQUEST, REQUEST, PAIR, st.just(("drain",))), max_size=60)


def brute_force(steps: list[Any], unit: str) -> Evidence:
    """Keeps every request, and counts at the end."""
    told: dict[tuple[str, object], list[Seen]] = defaultdict(list)
    pairs: dict[object, list[tuple[str, bool]]] = defaultdict(list)
    for number, step in enumerate(steps):
        caller = step[-1]
        who = caller if unit == "caller" and caller != "anonymous" else number
        if step[0] == "count":
            told[step[1], who].append(step[2])
        elif step[0] == "pair":
            _, live, candidate, agreed, _ = step
            told[LIVE, who].append(live)
            told[CANDIDATE, who].append(candidate)
            if agreed is not None:
                pairs[who].append((live.language, agreed))
    found = Evidence()
    for (arm, _), all_seen in told.items():
        labels = [seen.label for seen in all_seen if seen.label is not None][:1]
        counts = Counts(
            units=1,
            events=dict.fromkeys({event for seen in all_seen for event in seen.events}, 1),
            labels=dict.fromkeys(labels, 1),
        )
        found += Evidence(arms={arm: {all_seen[0].language: counts}})
    for (language, agreed), *_ in pairs.values():
        found += Evidence(pairs={language: Pairs(compared=1, disagreed=not agreed)})
    return found


@settings(max_examples=200, deadline=None)
@given(STEPS, st.sampled_from(["request", "caller"]))
def test_all_drains_together_are_what_a_count_of_everything_says(
    counting: Any, steps: list[Any], unit: str
) -> None:
    tally, stage = Tally(), counting(unit=unit)
    found, windows = Evidence(), []
    for number, step in enumerate([*steps, ("drain",)]):
        if step[0] == "count":
            tally.count(stage, step[1], step[2], caller=step[3])
        elif step[0] == "pair":
            seen = {LIVE: step[1], CANDIDATE: step[2]}
            tally.pair(stage, seen, agreed=step[3], caller=step[4])
        else:
            for drained in tally.drain(now=60.0 * number):
                assert (drained.salt, drained.epoch) == ("s", 0)
                assert list(drained.minutes) == [number]
                found += drained.evidence
                windows += drained.minutes.values()
    assert found == brute_force(steps, unit)
    for arm in found.arms:
        found.counts(arm)
    requests = [seen for step in steps for seen in step if isinstance(seen, Seen)]
    harmed = sum(any(event in HARMS for event in seen.events) for seen in requests)
    assert sum(window.units for window in windows) == len(requests)
    assert sum(window.harmed for window in windows) == harmed
    assert tally.drain(now=0.0) == []


def test_stages_stay_apart_and_a_caller_is_new_in_each(counting: Any) -> None:
    tally = Tally()
    for epoch in (0, 1, 1):
        stage = counting(unit="caller", epoch=epoch)
        tally.count(stage, LIVE, Seen("de", ("5xx",)), caller="ann")
    drained = {one.epoch: one for one in tally.drain(now=120.0)}
    for epoch, requests in ((0, 1), (1, 2)):
        assert drained[epoch].evidence.counts(LIVE) == Counts(units=1, events={"5xx": 1})
        assert drained[epoch].minutes == {2: Window(requests, requests)}


def test_callers_are_remembered_over_drains_and_only_so_many(counting: Any) -> None:
    tally, stage = Tally(most_callers=2), counting(unit="caller")
    for name in ("ann", "bob", "eve", "ann"):
        tally.count(stage, LIVE, Seen("de"), caller=name)
        tally.drain(now=0.0)
    tally.count(stage, LIVE, Seen("sw", ("timeout",)), caller="ann")
    tally.count(stage, LIVE, Seen("sw", ("timeout",)), caller="eve")
    (drained,) = tally.drain(now=0.0)
    assert drained.evidence == Evidence(arms={LIVE: {"de": Counts(events={"timeout": 1})}})


def test_no_name_of_a_caller_is_kept(counting: Any) -> None:
    tally = Tally()
    tally.count(counting(unit="caller"), LIVE, Seen("de"), caller="key-of-ann")
    (stage,) = tally._stages.values()
    assert "ann" not in repr(stage)
    (kept,) = stage.callers
    assert isinstance(kept, bytes)


@pytest.mark.parametrize("unit", ["request", "caller"])
def test_threads_lose_nothing(counting: Any, unit: str) -> None:
    tally, stage, found = Tally(), counting(unit=unit), []

    def ask(number: int) -> None:
        for n in range(500):
            tally.count(stage, LIVE, Seen("de", ("5xx",), "a"), caller=f"{number}-{n}")

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found += tally.drain(now=0.0)
    found += tally.drain(now=0.0)
    whole = sum((one.evidence for one in found), Evidence())
    assert whole.counts(LIVE) == Counts(units=2000, events={"5xx": 2000}, labels={"a": 2000})
