"""Thresholds reach their target on the rows they were fitted on, with the most that allows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.evaluation.thresholds import best_threshold, fit_thresholds
from xlmr.model.calibration import Target

rows = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30)
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
GOLD = np.array([True, True, False, True, False])


@pytest.mark.parametrize(
    ("target", "threshold"),
    [
        (Target("precision", 1.0), 0.8),
        (Target("precision", 0.75), 0.6),
        (Target("precision", 0.5), 0.5),
        (Target("recall", 1.0), 0.6),
        (Target("recall", 0.5), 0.8),
        (Target("f1"), 0.6),
    ],
)
def test_by_hand(target: Target, threshold: float) -> None:
    assert best_threshold(SCORES, GOLD, target) == threshold


def test_out_of_reach_is_never_given() -> None:
    assert best_threshold(SCORES, ~GOLD, Target("precision", 0.9)) is None
    assert best_threshold(SCORES, np.zeros(5, bool), Target("recall", 0.5)) is None


@given(rows, st.sampled_from(["precision", "recall"]), st.integers(1, 10))
def test_nothing_better_reaches_the_target(
    rows: list[tuple[int, bool]], kind: str, tenths: int
) -> None:
    scores = np.array([s / 6 for s, _ in rows])
    gold = np.array([g for _, g in rows])

    def reached(threshold: float) -> bool:
        flagged = scores >= threshold
        of = flagged.sum() if kind == "precision" else gold.sum()
        return bool(of) and (flagged & gold).sum() / of >= tenths / 10

    found = best_threshold(scores, gold, Target(kind, tenths / 10))  # type: ignore[arg-type]
    reaching = [t for t in scores if reached(t)] if gold.any() else []
    best = (min if kind == "precision" else max)(reaching, default=None)
    assert found == best


def test_a_language_of_few_rows_follows_the_others() -> None:
    chance = np.random.default_rng(0)
    gold = chance.uniform(size=(230, 1)) < 0.5
    scores = np.clip(0.3 + 0.4 * gold + chance.normal(0, 0.1, (230, 1)), 0, 1)
    languages = ["de"] * 100 + ["th"] * 100 + ["sw"] * 30
    scores[100:200] += 0.2  # Thai is overconfident: its own threshold is higher
    fitted = fit_thresholds(
        scores, gold, languages=languages, labels=["hate"], target=Target("precision", 0.95)
    )
    assert set(fitted.by_language) == {"de", "th"}
    th, de = fitted.of("hate", "th"), fitted.of("hate", "de")
    assert th is not None
    assert de is not None
    assert th > de
    assert fitted.of("hate", "sw") == fitted.of("hate", "xx") == fitted.everywhere["hate"]
    with pytest.raises(KeyError):
        fitted.of("love", "de")


def test_shapes_must_fit() -> None:
    for given_, languages in (((3, 2), "ab"), ((0, 1), "")):
        with pytest.raises(ValueError, match=r"rows, 1 labels"):
            fit_thresholds(
                np.zeros(given_),
                np.zeros(given_, bool),
                languages=list(languages),
                labels=["a"],
                target=Target("f1"),
            )
