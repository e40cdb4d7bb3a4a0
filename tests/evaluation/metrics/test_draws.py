"""Many draws at once are the draws one by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.evaluation.metrics import draws
from xlmr.evaluation.metrics.draws import draw, f1_of_counts, means, rank_correlations, whole
from xlmr.evaluation.metrics.regression import spearman

grades = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12)
seeds = st.integers(0, 2**16)


def f1(values_N3: np.ndarray) -> float:
    hits, gold, given_ = values_N3.sum(axis=0)
    return float(2.0 * hits / (gold + given_)) if gold + given_ else 0.0


def correlation(values_N2: np.ndarray) -> float:
    return spearman(*values_N2.T) if len(values_N2) > 1 else 0.0


@pytest.mark.parametrize(
    ("figures", "figure", "width"),
    [(means, np.mean, 2), (f1_of_counts, f1, 3), (rank_correlations, correlation, 2)],
)
@given(pairs=grades, seed=seeds)
def test_a_figure_of_counted_rows_is_that_of_the_rows_repeated(
    figures: draws.Figures,
    figure: Callable[[np.ndarray], float],
    width: int,
    pairs: list[tuple[int, int]],
    seed: int,
) -> None:
    values_NK = np.array([(min(pair), *pair)[-width:] for pair in pairs], float)
    [counts_SN] = draw(len(values_NK), 5, np.random.default_rng(seed))
    repeated = [values_NK[np.repeat(np.arange(len(pairs)), n_N.astype(int))] for n_N in counts_SN]
    assert figures(values_NK, counts_SN) == pytest.approx([figure(rows) for rows in repeated])
    assert whole(figures, values_NK) == pytest.approx(figure(values_NK))


@pytest.mark.parametrize("figures", [means, f1_of_counts, rank_correlations])
def test_a_draw_without_rows_has_nothing(figures: draws.Figures) -> None:
    values_NK = np.ones((4, 3 if figures is f1_of_counts else 2))
    assert figures(values_NK, np.zeros((2, 4))).tolist() == [0.0, 0.0]


def test_a_prediction_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        whole(rank_correlations, np.array([[1.0, np.nan], [2.0, 1.0]]))


@given(rows=st.integers(1, 50), samples=st.integers(1, 40), seed=seeds)
def test_a_draw_has_as_many_rows_as_there_are(rows: int, samples: int, seed: int) -> None:
    counts_SN = np.concatenate(list(draw(rows, samples, np.random.default_rng(seed))))
    assert counts_SN.shape == (samples, rows)
    assert (counts_SN.sum(axis=1) == rows).all()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    [at_once] = draw(30, 20, np.random.default_rng(3))
    monkeypatch.setattr(draws, "_BLOCK", 100)
    blocks = list(draw(30, 20, np.random.default_rng(3)))
    assert [len(block) for block in blocks] == [3] * 6 + [2]
    assert np.array_equal(np.concatenate(blocks), at_once)


def test_nothing_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="no rows"):
        next(draw(0, 10, np.random.default_rng(0)))
