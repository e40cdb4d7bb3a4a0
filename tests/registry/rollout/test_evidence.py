from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.errors import DataError
from xlmr.registry.rollout.evidence import CANDIDATE, EVENTS, LIVE, Counts, Evidence, Pairs

NAMES = st.sampled_from(["de", "sw", "zh", "und"])


@st.composite
def counts(draw: st.DrawFn) -> Counts:
    units = draw(st.integers(0, 10**9))
    events = draw(st.dictionaries(st.sampled_from(EVENTS), st.integers(0, units), max_size=4))
    labels = draw(st.dictionaries(st.sampled_from("ab"), st.integers(0, units // 2), max_size=2))
    return Counts(units=units, events=events, labels=labels)


@st.composite
def pairs(draw: st.DrawFn) -> Pairs:
    compared = draw(st.integers(0, 10**9))
    labelled = draw(st.integers(0, compared))
    live_only = draw(st.integers(0, labelled))
    return Pairs(
        compared=compared,
        disagreed=draw(st.integers(0, compared)),
        labelled=labelled,
        live_only=live_only,
        candidate_only=draw(st.integers(0, labelled - live_only)),
    )


EVIDENCE = st.builds(
    Evidence,
    arms=st.dictionaries(
        st.sampled_from([LIVE, CANDIDATE, "v7"]), st.dictionaries(NAMES, counts(), max_size=3)
    ),
    pairs=st.dictionaries(NAMES, pairs(), max_size=3),
)


@settings(max_examples=40, deadline=None)
@given(EVIDENCE, EVIDENCE, EVIDENCE)
def test_merging_may_be_done_in_any_order(one: Evidence, two: Evidence, three: Evidence) -> None:
    assert (one + two) + three == one + (two + three)
    assert one + two == two + one
    assert one + Evidence() == one
    assert json.dumps((one + two).to_json()) == json.dumps((two + one).to_json())


@settings(deadline=None)
@given(EVIDENCE)
def test_json_round_trip(evidence: Evidence) -> None:
    assert Evidence.from_json(json.loads(json.dumps(evidence.to_json()))) == evidence


@settings(max_examples=40, deadline=None)
@given(EVIDENCE, EVIDENCE)
def test_sums_over_languages_are_sums(one: Evidence, two: Evidence) -> None:
    both = one + two
    assert both.counts(LIVE) == one.counts(LIVE) + two.counts(LIVE)
    assert both.paired() == one.paired() + two.paired()
    assert set(both.languages) == {*one.languages, *two.languages}
    by_language = sum((both.counts(LIVE, (name,)) for name in both.languages), Counts())
    assert by_language == both.counts(LIVE)


def test_evidence_cannot_be_changed() -> None:
    events = {"5xx": 1}
    found = Counts(units=3, events=events)
    events["5xx"] = 3
    assert found.events["5xx"] == 1
    with pytest.raises(TypeError):
        found.events["5xx"] = 2  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.units = 4  # type: ignore[misc]
    with pytest.raises(TypeError):
        Evidence(arms={LIVE: {"de": found}}).arms[LIVE]["de"] = found  # type: ignore[index]


def test_nothing_seen_is_nothing() -> None:
    empty = Evidence(arms={LIVE: {"de": Counts()}}, pairs={"de": Pairs()})
    assert empty == Evidence()
    assert empty.languages == ()
    assert empty.counts(LIVE) == Counts()


@pytest.mark.parametrize(
    "impossible",
    [
        {"units": -1},
        {"units": 1, "events": {"5xx": -1}},
        {"units": 1, "events": {"boredom": 1}},
        {"units": 1, "labels": {"a": -1}},
    ],
)
def test_counts_that_cannot_be_are_refused(impossible: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        Counts(**impossible)


@pytest.mark.parametrize("late", [{"events": {"5xx": 2}}, {"labels": {"a": 1, "b": 1}}])
def test_what_belongs_to_units_counted_before_needs_their_addition(late: dict[str, Any]) -> None:
    first = Evidence(arms={LIVE: {"de": Counts(units=2)}})
    second = Evidence(arms={LIVE: {"de": Counts(**late)}})
    with pytest.raises(DataError):
        second.counts(LIVE)
    assert Evidence.from_json(second.to_json()) == second
    assert (first + second).counts(LIVE) == Counts(units=2, **late)


@pytest.mark.parametrize(
    "impossible",
    [
        {"compared": 1, "disagreed": 2},
        {"compared": 1, "labelled": 2},
        {"compared": 5, "labelled": 1, "live_only": 1, "candidate_only": 1},
        {"compared": 1, "disagreed": -1},
        {"compared": -1},
    ],
)
def test_pairs_that_cannot_be_are_refused(impossible: dict[str, int]) -> None:
    with pytest.raises(DataError):
        Pairs(**impossible)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"arms": {"live": {"de": {"units": "3"}}}}, "$.arms[...][...].units"),
        ({"arms": {"live": {"de": {"units": -3}}}}, "$.arms[...][...].units"),
        ({"pairs": {"de": {"compared": 1.5}}}, "$.pairs[...].compared"),
        ({"arms": [], "more": 1}, "$.arms"),
        ({"more": 1}, "more"),
        (3, "object"),
    ],
)
def test_foreign_json_is_refused_by_its_place(values: object, place: str) -> None:
    with pytest.raises(DataError) as caught:
        Evidence.from_json(values, origin="counts of web-1")
    assert place in caught.value.message
    assert caught.value.message.startswith("counts of web-1: ")
