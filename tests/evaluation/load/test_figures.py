"""Figures of a load, on outcomes whose figures are known."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.evaluation.load.figures import Level, Outcome, summarise
from xlmr.evaluation.load.run import highest_rate


def test_every_outcome_counts_once() -> None:
    outcomes = (
        [Outcome(200, 0.1)] * 6 + [Outcome(200, 0.9)] * 2 + [Outcome(429, 0.01), Outcome(0, 30)]
    )
    level = summarise(outcomes, seconds=2.0, objective_s=0.5)
    assert level.offered == 5
    assert level.answered == 4
    assert level.good == 3
    assert level.refused == pytest.approx(0.1)
    assert level.failed == pytest.approx(0.1)
    assert level.p50 == pytest.approx(0.1)
    assert level.refusal_p99 == pytest.approx(0.01)
    assert level.statuses == {0: 1, 200: 8, 429: 1}


def test_latencies_of_nothing_are_no_numbers() -> None:
    level = summarise([Outcome(503, 0.1)], seconds=1.0, objective_s=0.5)
    assert math.isnan(level.p99)
    assert json.loads(json.dumps(level.to_json()))["p99"] is None
    assert not level.keeps(0.5)


def test_nothing_has_no_figures() -> None:
    with pytest.raises(ValueError, match="nothing"):
        summarise([], seconds=1.0, objective_s=0.5)


@given(st.lists(st.tuples(st.sampled_from([0, 200, 422, 429, 503]), st.floats(0, 60)), min_size=1))
def test_shares_add_up(raw: list[tuple[int, float]]) -> None:
    level = summarise([Outcome(*one) for one in raw], seconds=1.0, objective_s=0.5)
    assert level.answered + (level.refused + level.failed) * level.offered == pytest.approx(
        len(raw)
    )
    assert level.good <= level.answered
    assert sum(level.statuses.values()) == len(raw)


def level_of(rate: float, *, kept: bool) -> Level:
    outcome = Outcome(200, 0.1 if kept else 2.0)
    return summarise([outcome] * 10, seconds=10 / rate, objective_s=0.5)


@given(st.floats(9, 20_000))
def test_the_highest_rate_is_found(limit: float) -> None:
    found, level, tried = highest_rate(
        lambda rate: level_of(rate, kept=rate <= limit), objective_s=0.5
    )
    assert level is not None
    assert level.offered == pytest.approx(found)
    assert level.keeps(0.5)
    assert found <= limit
    assert limit <= found * 1.07
    assert len(tried) < 40


def test_one_bad_moment_does_not_decide() -> None:
    seen: list[float] = []

    def once_disturbed(rate: float) -> Level:
        seen.append(rate)
        return level_of(rate, kept=rate <= 100 and seen.count(rate) != 1)

    assert highest_rate(once_disturbed, objective_s=0.5)[0] == pytest.approx(100, rel=0.07)


def test_a_server_that_keeps_nothing_has_no_rate() -> None:
    found, level, tried = highest_rate(lambda rate: level_of(rate, kept=False), objective_s=0.5)
    assert found == 0
    assert level is None
    assert len(tried) == 2
