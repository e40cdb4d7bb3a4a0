"""Correlations against scipy, and what they do where it would say nan."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from xlmr.evaluation.metrics.regression import pearson, spearman

rows = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=40)


@given(rows.filter(lambda r: len({a for a, _ in r}) > 1 and len({b for _, b in r}) > 1))
def test_they_agree_with_scipy(rows: list[tuple[int, int]]) -> None:
    gold, predicted = np.array(rows, float).T
    assert pearson(gold, predicted) == pytest.approx(scipy.stats.pearsonr(gold, predicted)[0])
    assert spearman(gold, predicted) == pytest.approx(scipy.stats.spearmanr(gold, predicted)[0])


def test_only_the_order_counts_for_spearman() -> None:
    gold = np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(gold, np.exp(gold)) == pytest.approx(1.0)
    assert spearman(gold, -gold) == pytest.approx(-1.0)
    assert pearson(gold, np.exp(gold)) < 0.95


def test_a_constant_tells_nothing() -> None:
    constant = np.full(7, 0.1)
    assert pearson(np.arange(7.0), constant) == spearman(np.arange(7.0), constant) == 0.0


@pytest.mark.parametrize("metric", [pearson, spearman])
def test_what_has_no_correlation_is_refused(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(ValueError, match="1 gold"):
        metric(np.array([1.0]), np.array([1.0]))
    with pytest.raises(ValueError, match="finite"):
        metric(np.array([1.0, 2.0]), np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="2 gold and 3"):
        metric(np.array([1.0, 2.0]), np.array([1.0, 2.0, 3.0]))
