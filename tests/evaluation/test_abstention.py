"""An abstention threshold keeps its promise, and asks for no more silence than it needs."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.evaluation.abstention import fit_abstention, upper_bound


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(0, 400), st.sampled_from([0.9, 0.95, 0.9975]))
def test_the_bound_is_clopper_and_pearsons(rows: int, hits: int, confidence: float) -> None:
    hits = min(hits, rows)
    expected = scipy.stats.binomtest(hits, rows, alternative="less").proportion_ci(confidence).high
    assert upper_bound(hits, rows, confidence=confidence) == pytest.approx(expected, abs=1e-9)


def draw(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    confidence = chance.uniform(0.5, 1.0, rows)
    return confidence, chance.uniform(size=rows) < confidence


def test_the_promise_holds_as_often_as_stated() -> None:
    # Right with a chance equal to the confidence: above t the true risk is (1 - t) / 2.
    broken = 0
    for seed in range(100):
        fitted = fit_abstention(*draw(seed, 500), risk=0.15, confidence=0.9)
        if fitted.threshold is not None:
            broken += (1.0 - max(fitted.threshold, 0.5)) / 2.0 > 0.15
    assert broken <= 10  # a tenth of them


def test_many_rows_come_close_to_the_best_threshold() -> None:
    fitted = fit_abstention(*draw(0, 20_000), risk=0.1)
    assert fitted.threshold == pytest.approx(0.8, abs=0.05)
    assert fitted.coverage == pytest.approx(0.4, abs=0.1)
    assert fitted.bound is not None
    assert fitted.bound <= 0.1
    assert fitted.answers(0.95)
    assert not fitted.answers(0.7)


def test_what_cannot_be_shown_is_withheld() -> None:
    for confidence, right in ((np.ones(0), np.ones(0, bool)), (np.full(9, 0.9), np.ones(9, bool))):
        fitted = fit_abstention(confidence, right, risk=0.05)
        assert (fitted.threshold, fitted.bound, fitted.coverage) == (None, None, 0.0)
        assert not fitted.answers(1.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=80))
def test_a_stricter_risk_never_answers_more(rows: list[tuple[int, bool]]) -> None:
    confidence = np.array([c / 4 for c, _ in rows])
    right = np.array([r for _, r in rows], bool)
    strict = fit_abstention(confidence, right, risk=0.2)
    loose = fit_abstention(confidence, right, risk=0.4)
    assert strict.coverage <= loose.coverage
    if loose.threshold is not None:
        assert np.mean(confidence > loose.threshold) == loose.coverage


def test_all_rows_right_means_all_are_answered() -> None:
    fitted = fit_abstention(np.linspace(0.3, 1, 400), np.ones(400, bool), risk=0.05)
    assert (fitted.threshold, fitted.coverage) == (0.0, 1.0)


@pytest.mark.parametrize(("risk", "confidence"), [(0.0, 0.9), (1.0, 0.9), (0.1, 1.0)])
def test_what_cannot_be_promised_is_refused(risk: float, confidence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_abstention(np.ones(1), np.ones(1, bool), risk=risk, confidence=confidence)
    with pytest.raises(ValueError, match="2 hits in 1 rows"):
        upper_bound(2, 1, confidence=0.9)
