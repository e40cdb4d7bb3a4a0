"""The properties an interval must have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.evaluation.metrics.intervals import bootstrap_interval, bootstrap_statistic


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


def test_any_statistic_can_be_drawn() -> None:
    values = np.random.default_rng(1).normal(size=500)
    low, high = bootstrap_statistic(
        lambda rows: float(np.median(values[rows])), 500, generator=np.random.default_rng(0)
    )
    # The median of a normal sample has the standard error 1.2533 / sqrt(N).
    assert (high - low) / 2 == pytest.approx(1.96 * 1.2533 / np.sqrt(500), rel=0.3)
    assert low <= np.median(values) <= high


def test_nothing_has_no_interval() -> None:
    with pytest.raises(ValueError, match="no rows"):
        bootstrap_interval(np.array([]), generator=np.random.default_rng(0))
