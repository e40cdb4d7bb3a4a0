from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest

from xlmr.evaluation.near_duplicates import find_pairs
from xlmr.loop.accuracy import estimate
from xlmr.loop.select import Candidate, Selection, doubt_of, quotas, select
from xlmr.loop.suspicion import Suspicion


def candidates(count: int, *, seed: int = 1) -> list[Candidate]:
    chance = random.Random(seed)
    languages = ["en"] * 8 + ["de"] * 3 + ["tr"]
    return [
        Candidate(
            id=f"p{n}",
            at=float(n),
            language=chance.choice(languages),
            label=chance.choice(("refund", "other")),
            doubt=chance.random(),
            fingerprint=f"{n:016x}",
        )
        for n in range(count)
    ]


def ids(chosen: Selection, reason: str = "") -> list[str]:
    return [pick.candidate.id for pick in chosen.asked if reason in ("", pick.reason)]


def test_the_same_seed_selects_the_same_in_any_order() -> None:
    rows = candidates(3000)
    chosen = select(rows, count=100, share=0.01, seed=7)
    assert len(chosen.asked) == 100
    assert ids(select(rows[::-1], count=100, share=0.01, seed=7)) == ids(chosen)
    assert ids(select(rows, count=100, share=0.01, seed=8)) != ids(chosen)
    assert {p.inclusion for p in chosen.asked if p.reason == "random"} == {0.01}
    assert {p.inclusion for p in chosen.asked if p.reason == "doubtful"} == {0.0}
    # The order tells nobody which rows chance picked.
    reasons = [pick.reason for pick in chosen.asked]
    assert reasons != sorted(reasons)
    assert reasons != sorted(reasons, reverse=True)


def test_doubtful_answers_come_first_in_each_language() -> None:
    rows = candidates(3000)
    chosen = select(rows, count=60, share=0.0, seed=1)
    by_language = Counter(pick.candidate.language for pick in chosen.asked)
    assert set(by_language) == {"en", "de", "tr"}
    assert by_language["en"] < 2 * by_language["de"]  # by roots, not by traffic
    for language, count in by_language.items():
        doubts = sorted((r.doubt for r in rows if r.language == language), reverse=True)
        taken = [p.candidate.doubt for p in chosen.asked if p.candidate.language == language]
        assert sorted(taken, reverse=True) == doubts[:count]


def test_where_it_drifted_more_is_asked_and_of_what_is_new() -> None:
    rows = candidates(3000)
    drift = Suspicion(
        language="tr", since=1500.0, labels=frozenset(["refund"]), examples=frozenset(["p3"])
    )
    rows[3] = Candidate(id="p3", at=3.0, language="tr", label="other", doubt=0.9, fingerprint="x")
    chosen = select(rows, count=60, share=0.0, seed=1, suspicions=[drift])
    found = [p.candidate for p in chosen.asked if p.candidate.language == "tr"]
    assert len(found) > 30
    assert "p3" in [c.id for c in found]
    new = [c for c in found if c.at >= 1500.0]
    assert sum(c.label == "refund" for c in new) > len(new) / 2
    assert len(new) > len(found) / 2


def test_a_second_run_selects_others_and_what_was_labelled_is_left_out() -> None:
    rows = candidates(2000)
    first = select(rows, count=50, share=0.01, seed=1)
    taken = set(ids(first))
    again = [replace(row, asked=row.id in taken) for row in rows]
    second = select(again, count=50, share=0.02, seed=1)
    assert taken.isdisjoint(ids(second))
    # The larger slice holds the smaller one, which is counted with the larger share.
    assert {p.candidate.id for p in second.known} == set(ids(first, "random"))
    assert {p.inclusion for p in second.known} == {0.02}
    users = [replace(row, labelled=True) for row in rows]
    third = select(users, count=50, share=0.01, seed=1)
    # Users speak up where something is wrong: the slice is asked all the same.
    assert ids(third) == ids(third, "random") != []


def test_equal_and_nearly_equal_texts_are_asked_once() -> None:
    said = "please send the refund for my last order to the other bank account"
    texts = [said, said + "!", said.upper(), "where is my parcel, it has not arrived yet", said]
    rows = [
        Candidate(id=f"p{n}", at=n, language="en", doubt=0.9 - n / 10, text=text, fingerprint=mark)
        for n, (text, mark) in enumerate(zip(texts, "abcda", strict=True))
    ]
    chosen = select(rows, count=5, share=0.0, seed=1, near=find_pairs)
    assert sorted(ids(chosen)) == ["p0", "p3"]
    assert chosen.repeated == 3
    assert sorted(ids(select(rows, count=5, share=0.0, seed=1))) == ["p0", "p1", "p2", "p3"]
    # Equal to one that was left out for being near to a better one.
    more = Candidate(id="p9", at=9.0, language="en", doubt=0.1, text=said.title() + "?")
    slightly = replace(rows[1], id="p7", text=said + " now", fingerprint="y")
    same = replace(slightly, id="p8", text=(said + " now").upper(), fingerprint="w")
    assert sorted(
        ids(select([*rows, more, slightly, same], count=9, share=0.0, seed=1, near=find_pairs))
    ) == ["p0", "p3"]
    # What somebody was asked before, under another fingerprint, is not asked in other words.
    asked = Candidate(id="old", at=0.0, language="en", text=said, fingerprint="z", asked=True)
    assert ids(select([*rows, asked], count=5, share=0.0, seed=1, near=find_pairs)) == ["p3"]


def test_accuracy_over_the_slice_is_unbiased_and_over_the_rest_is_not() -> None:
    rows = candidates(1500)
    right = {row.id: row.doubt < 0.6 for row in rows}
    truth = sum(right.values()) / len(right)
    errors, covered, biased = [], 0, []
    for seed in range(80):
        chosen = select(rows, count=100, share=0.05, seed=seed)
        random_part = [p for p in chosen.asked if p.reason == "random"]
        found = estimate((p.inclusion, right[p.candidate.id]) for p in random_part)
        assert found is not None
        errors.append(found.share - truth)
        covered += found.low <= truth <= found.high
        rest = [right[p.candidate.id] for p in chosen.asked if p.reason != "random"]
        biased += rest
    assert abs(sum(errors) / len(errors)) < 0.02
    assert covered >= 70
    assert sum(biased) / len(biased) < 0.1


def test_slices_of_two_windows_add_up() -> None:
    """Rows of a busy and a quiet week, picked with different shares: weighed, they are right."""
    rows = candidates(1600)
    right = {r.id: (r.doubt < 0.9) if r.at < 1200 else (r.doubt < 0.3) for r in rows}
    truth = sum(right.values()) / len(right)
    found = []
    for seed in range(60):
        inclusions: dict[str, float] = {}
        for window, share in ((rows[:1200], 0.05), (rows[800:], 0.4)):
            chosen = select(window, count=0, share=share, seed=seed)
            for pick in chosen.asked:
                before = inclusions.get(pick.candidate.id, 0.0)
                inclusions[pick.candidate.id] = max(before, pick.inclusion)
        weighed = estimate((inclusion, right[row]) for row, inclusion in inclusions.items())
        assert weighed is not None
        found.append(weighed.share)
    assert abs(sum(found) / len(found) - truth) < 0.02


@pytest.mark.parametrize(
    ("available", "weights", "count", "given"),
    [
        ({"a": 10, "b": 10}, {"a": 3, "b": 1}, 8, {"a": 6, "b": 2}),
        ({"a": 2, "b": 10}, {"a": 3, "b": 1}, 8, {"a": 2, "b": 6}),
        ({"a": 2, "b": 1}, {"a": 1, "b": 1}, 8, {"a": 2, "b": 1}),
        ({"a": 5, "b": 5, "c": 5}, {"a": 1, "b": 1, "c": 1}, 2, {"a": 1, "b": 1, "c": 0}),
        ({}, {}, 5, {}),
    ],
)
def test_quotas(
    available: dict[str, int], weights: dict[str, float], count: int, given: dict[str, int]
) -> None:
    assert quotas(available, weights, count) == given


def test_doubt() -> None:
    assert doubt_of({"a": 0.5, "b": 0.5}, 0.5) == pytest.approx(1.0)
    assert doubt_of({"a": 0.9, "b": 0.1}, 0.9) == pytest.approx(0.2)
    assert doubt_of({}, 0.8) == pytest.approx(0.2)
    assert doubt_of({}, None) == 0.5


def test_an_estimate_knows_its_limits() -> None:
    def of(rows: Iterable[tuple[float, bool]]) -> tuple[float, float, float]:
        found = estimate(rows)
        assert found is not None
        return found.low, found.share, found.high

    assert estimate([]) is None
    low, share, high = of([(0.5, True)] * 20)
    assert (share, high) == (1.0, 1.0)
    assert 0.7 < low < 0.9
    # A heavy row counts for more, and makes the rest worth less.
    low, share, high = of([(0.01, False)] + [(0.5, True)] * 50)
    assert share == pytest.approx(0.5)
    assert high - low > 0.6
    with pytest.raises(ValueError, match="probability"):
        estimate([(0.0, True)])
