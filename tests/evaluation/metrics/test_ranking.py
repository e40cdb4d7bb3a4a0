"""Rankings by hand, and against scikit-learn where it has the metric."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from xlmr.evaluation.metrics.ranking import bitext_hits, ndcg_at, recall_at, reciprocal_rank


@pytest.mark.parametrize(("k", "recall"), [(1, 0.0), (2, 0.5), (3, 0.5), (9, 1.0)])
def test_recall(k: int, recall: float) -> None:
    assert recall_at(["x", "a", "y", "b"], {"a", "b"}, k) == recall


def test_the_first_relevant_one_decides() -> None:
    assert reciprocal_rank(["x", "a", "b"], {"a", "b"}) == 0.5
    assert reciprocal_rank(["x", "y", "a"], {"a"}, k=2) == 0.0
    assert reciprocal_rank([], {"a"}) == 0.0


@given(st.lists(st.integers(0, 3), min_size=2, max_size=15).filter(any), st.integers(1, 12))
def test_ndcg_is_scikit_learns(gains: list[int], k: int) -> None:
    scores = -np.arange(len(gains), dtype=float)  # the ranking is the order of the list
    expected = sklearn.metrics.ndcg_score([gains], [scores], k=k)
    assert ndcg_at(range(len(gains)), dict(enumerate(map(float, gains))), k) == pytest.approx(
        expected
    )


def test_ndcg_by_hand() -> None:
    # found 0, 3, 2: 3 / log2(3) + 2 / log2(4); best 3, 2: 3 + 2 / log2(3)
    expected = (3 / np.log2(3) + 1) / (3 + 2 / np.log2(3))
    assert ndcg_at(["x", "a", "b"], {"a": 3.0, "b": 2.0}) == pytest.approx(expected)


def test_what_has_no_score_is_refused() -> None:
    for metric in (recall_at, ndcg_at):
        with pytest.raises(ValueError, match="nothing is relevant"):
            metric(["a"], {}, 3)  # type: ignore[operator]
    with pytest.raises(ValueError, match="twice"):
        recall_at(["a", "a"], {"a"}, 2)
    with pytest.raises(ValueError, match="k is 0"):
        reciprocal_rank(["a"], {"a"}, 0)
    with pytest.raises(ValueError, match="below 0"):
        ndcg_at(["a"], {"a": 1.0, "b": -1.0})


def test_translations_find_each_other_both_ways() -> None:
    first = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    second = np.array([[3.0, 0.1], [1.0, 0.9], [0.0, 2.0]])  # lengths do not matter; 1 and 2 swap
    there, back = bitext_hits(first, second)
    assert there.tolist() == [True, False, False]
    assert back.tolist() == [True, False, False]
    assert all(hits.all() for hits in bitext_hits(first, first * 7))


def test_more_rows_than_a_chunk() -> None:
    vectors = np.random.default_rng(0).normal(size=(1500, 16)).astype(np.float32)
    assert all(hits.all() and len(hits) == 1500 for hits in bitext_hits(vectors, vectors))


def test_a_vector_without_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="no direction"):
        bitext_hits(np.zeros((2, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="no direction"):
        bitext_hits(np.ones((1, 2)), np.array([[np.nan, 1.0]]))
    with pytest.raises(ValueError, match="expected equal"):
        bitext_hits(np.ones((2, 2)), np.ones((3, 2)))
