"""Metrics against scikit-learn, and the properties an interval must have."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from xlmr.evaluation.metrics import accuracy, bootstrap_interval, macro_f1

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=50)


@given(pairs)
def test_they_agree_with_scikit_learn(rows: list[tuple[int, int]]) -> None:
    gold, predicted = np.array(rows).T
    assert accuracy(gold, predicted) == pytest.approx(
        sklearn.metrics.accuracy_score(gold, predicted)
    )
    assert macro_f1(gold, predicted) == pytest.approx(
        sklearn.metrics.f1_score(gold, predicted, average="macro", zero_division=0)
    )


@pytest.mark.parametrize("metric", [accuracy, macro_f1])
def test_nothing_has_no_score(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(ValueError, match="0 gold and 0 predicted"):
        metric(np.array([], int), np.array([], int))
    with pytest.raises(ValueError, match="2 gold and 1 predicted"):
        metric(np.array([1, 2]), np.array([1]))


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, 5))
def test_an_interval_holds_the_mean_and_stays_in_range(right: list[bool], seed: int) -> None:
    values = np.array(right, float)
    low, high = bootstrap_interval(values, generator=np.random.default_rng(seed), samples=50)
    assert 0.0 <= low <= values.mean() <= high <= 1.0


def test_more_rows_make_it_narrower() -> None:
    def width(rows: int) -> float:
        values = np.arange(rows) % 2
        low, high = bootstrap_interval(values.astype(float), generator=np.random.default_rng(0))
        return high - low

    assert width(1000) < width(100) < width(20)


def test_it_is_as_wide_as_theory_says() -> None:
    values = (np.arange(400) % 5 > 0).astype(float)  # 0.8, standard error 0.02
    low, high = bootstrap_interval(values, generator=np.random.default_rng(0), samples=4000)
    assert (high - low) / 2 == pytest.approx(1.96 * 0.02, rel=0.1)
