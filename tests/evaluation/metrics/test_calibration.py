"""Calibration by hand, against scikit-learn, and against chance."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.evaluation.metrics.calibration import (
    beyond_chance_interval,
    brier,
    ece,
    ece_beyond_chance,
    ece_by_chance,
    ece_interval,
    log_loss,
    reliability,
)

rows = st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=1, max_size=60)


def test_by_hand() -> None:
    confidence = np.array([0.9, 0.6, 0.6, 0.9, 0.9, 0.6])
    right = np.array([True, True, False, True, False, False])
    low, high = reliability(confidence, right, bins=2)
    assert (low.n, low.accuracy, low.confidence) == (3, pytest.approx(1 / 3), pytest.approx(0.6))
    assert (high.n, high.accuracy, high.confidence) == (3, pytest.approx(2 / 3), pytest.approx(0.9))
    assert ece(confidence, right, bins=2) == pytest.approx((0.6 - 1 / 3 + 0.9 - 2 / 3) / 2)
    assert ece(confidence, right, bins=1) == pytest.approx(0.75 - 0.5)


@given(rows, st.integers(1, 20), st.randoms())
def test_bins_hold_every_row_once_in_any_order(
    rows: list[tuple[int, bool]], bins: int, chance: object
) -> None:
    confidence = np.array([c / 10 for c, _ in rows])
    right = np.array([r for _, r in rows])
    found = reliability(confidence, right, bins=bins)
    assert sum(b.n for b in found) == len(rows)
    assert min(b.n for b in found) >= 1
    assert len(found) <= bins
    means = [b.confidence for b in found]
    assert means == sorted(means)
    order = np.random.default_rng(0).permutation(len(rows))
    assert ece(confidence[order], right[order], bins=bins) == pytest.approx(
        ece(confidence, right, bins=bins)
    )
    assert ece(confidence, right, bins=bins) >= abs(confidence.mean() - right.mean()) - 1e-12


def test_rows_without_ties_share_bins_evenly() -> None:
    found = reliability(np.linspace(0, 1, 100), np.ones(100, bool), bins=7)
    assert {b.n for b in found} == {14, 15}


@pytest.mark.parametrize(("rows", "bins"), [(1, 1), (59, 1), (60, 2), (450, 15), (9000, 15)])
def test_few_rows_make_few_bins(rows: int, bins: int) -> None:
    assert len(reliability(np.linspace(0, 1, rows), np.ones(rows, bool))) == bins


def test_honest_and_boastful() -> None:
    chance = np.random.default_rng(0)
    confidence = chance.uniform(0.5, 1.0, 4000)
    right = chance.uniform(size=4000) < confidence
    assert ece(confidence, right) < 0.03
    assert ece(np.minimum(confidence + 0.2, 1.0), right) > 0.1


@settings(max_examples=15, deadline=None)
@given(rows)
def test_the_interval_holds_the_figure(rows: list[tuple[int, bool]]) -> None:
    confidence = np.array([c / 10 for c, _ in rows])
    right = np.array([r for _, r in rows])
    low, high = ece_interval(confidence, right, generator=np.random.default_rng(0), samples=20)
    assert 0.0 <= low <= ece(confidence, right) <= high <= 1.0


@given(st.lists(st.tuples(st.integers(0, 2), *[st.integers(1, 9)] * 3), min_size=3, max_size=20))
def test_brier_and_log_loss_are_scikit_learns(rows: list[tuple[int, int, int, int]]) -> None:
    gold = np.array([row[0] for row in rows])
    probabilities = np.array([row[1:] for row in rows], float)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    one_hot = np.eye(3)[gold]
    assert brier(probabilities, gold) == pytest.approx(
        np.mean((probabilities - one_hot).T ** 2) * 3
    )
    assert log_loss(np.log(probabilities), gold) == pytest.approx(
        sklearn.metrics.log_loss(gold, probabilities, labels=[0, 1, 2])
    )


def test_log_loss_survives_large_logits() -> None:
    assert log_loss(np.array([[-60.0, 35.0]]), np.array([0])) == pytest.approx(95.0)


def test_what_is_no_confidence_is_refused() -> None:
    with pytest.raises(ValueError, match="outside 0 to 1"):
        ece(np.array([1.2]), np.array([True]))
    with pytest.raises(ValueError, match="outside 0 to 1"):
        ece(np.array([np.nan]), np.array([True]))
    with pytest.raises(ValueError, match="0 rows"):
        ece(np.array([]), np.array([], bool))
    with pytest.raises(ValueError, match="0 gold"):
        brier(np.zeros((0, 2)), np.array([], int))


def drawn(rows: int, gap: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and answers that are right less often than they say, by `gap`."""
    chance = np.random.default_rng(seed)
    confidence_N = chance.uniform(0.5, 0.9, rows)
    return confidence_N, chance.uniform(size=rows) < confidence_N - gap


def test_what_chance_makes_is_what_honest_models_measure() -> None:
    for rows in (204, 870):
        measured = np.mean([ece(*drawn(rows, 0.0, seed)) for seed in range(100)])
        confidence_N, _ = drawn(rows, 0.0, 1)
        assert ece_by_chance(confidence_N) == pytest.approx(measured, abs=0.005)
        assert measured > 0.03


@pytest.mark.parametrize("gap", [0.0, 0.1])
def test_beyond_chance_is_the_gap_itself_however_few_the_rows(gap: float) -> None:
    for rows in (120, 900):
        squares = [ece_beyond_chance(*drawn(rows, gap, seed))[1] for seed in range(300)]
        error = 3.0 * np.std(squares) / np.sqrt(len(squares))
        assert np.mean(squares) == pytest.approx(gap**2, abs=error)


def test_the_interval_of_what_is_beyond_chance_covers_it() -> None:
    for gap in (0.0, 0.1):
        held = 0
        for seed in range(60):
            low, high = beyond_chance_interval(
                *drawn(400, gap, seed), generator=np.random.default_rng(seed), samples=100
            )
            held += low <= gap <= high
        assert held >= 51


@settings(max_examples=30, deadline=None)
@given(rows)
def test_any_rows_have_a_level_and_a_rest(rows: list[tuple[int, bool]]) -> None:
    confidence = np.array([c / 10 for c, _ in rows])
    right = np.array([r for _, r in rows])
    level = ece_by_chance(confidence, samples=10)
    assert 0.0 <= level <= 1.0
    assert level == ece_by_chance(confidence[::-1], samples=10)
    root, square = ece_beyond_chance(confidence, right)
    assert root == pytest.approx(max(square, 0.0) ** 0.5)
    low, high = beyond_chance_interval(
        confidence, right, generator=np.random.default_rng(0), samples=20
    )
    assert 0.0 <= low <= root <= high <= 1.0
    certain = np.round(confidence)
    assert ece_by_chance(certain, samples=5) == 0.0
