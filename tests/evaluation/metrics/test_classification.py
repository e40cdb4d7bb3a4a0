"""Classification metrics against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from xlmr.evaluation.metrics.classification import (
    accuracy,
    auroc,
    average_precision,
    confusion,
    macro_f1,
    multi_label_f1,
)

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=50)
# Few distinct scores, so that ties are common.
scored = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40).filter(
    lambda rows: len({gold for gold, _ in rows}) == 2
)
flags = st.lists(st.tuples(*[st.tuples(st.booleans(), st.booleans())] * 3), min_size=1, max_size=20)


@given(pairs)
def test_one_label_a_row(rows: list[tuple[int, int]]) -> None:
    gold, predicted = np.array(rows).T
    assert accuracy(gold, predicted) == pytest.approx(
        sklearn.metrics.accuracy_score(gold, predicted)
    )
    assert macro_f1(gold, predicted) == pytest.approx(
        sklearn.metrics.f1_score(gold, predicted, average="macro", zero_division=0)
    )
    counts = confusion(gold, predicted, classes=5)
    assert (counts == sklearn.metrics.confusion_matrix(gold, predicted, labels=range(5))).all()


@given(scored)
def test_scores_to_be_ranked(rows: list[tuple[bool, int]]) -> None:
    gold = np.array([g for g, _ in rows])
    scores = np.array([s / 3 for _, s in rows])
    assert auroc(gold, scores) == pytest.approx(sklearn.metrics.roc_auc_score(gold, scores))
    assert average_precision(gold, scores) == pytest.approx(
        sklearn.metrics.average_precision_score(gold, scores)
    )
    assert auroc(gold, scores) + auroc(gold, -scores) == pytest.approx(1.0)
    assert auroc(gold, np.exp(scores)) == auroc(gold, scores)  # only the order counts


@given(flags)
def test_several_labels_a_row(rows: list[tuple[tuple[bool, bool], ...]]) -> None:
    gold = np.array([[g for g, _ in row] for row in rows])
    predicted = np.array([[p for _, p in row] for row in rows])
    expected = [
        sklearn.metrics.f1_score(gold, predicted, average=average, zero_division=0)
        for average in ("micro", "macro")
    ]
    assert multi_label_f1(gold, predicted) == pytest.approx(expected)


@pytest.mark.parametrize("metric", [accuracy, macro_f1])
def test_nothing_has_no_score(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(ValueError, match="0 gold and 0 predicted"):
        metric(np.array([], int), np.array([], int))
    with pytest.raises(ValueError, match="2 gold and 1 predicted"):
        metric(np.array([1, 2]), np.array([1]))


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(ValueError, match="2 rows with the label and 0 without"):
        auroc(np.array([True, True]), np.array([0.1, 0.2]))
    with pytest.raises(ValueError, match="0 rows with the label"):
        average_precision(np.array([False]), np.array([0.1]))
    with pytest.raises(ValueError, match="finite"):
        auroc(np.array([True, False]), np.array([np.nan, 0.2]))
    assert average_precision(np.array([True]), np.array([0.1])) == 1.0


def test_a_class_the_matrix_has_no_place_for_is_refused() -> None:
    with pytest.raises(ValueError, match="outside 0 to 1"):
        confusion(np.array([0, 2]), np.array([0, 1]), classes=2)
