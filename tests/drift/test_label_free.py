from __future__ import annotations

from bisect import bisect_right

import numpy as np
import pytest

from xlmr.drift.label_free import (
    Accuracy,
    Labelled,
    estimated_accuracies,
    estimated_accuracy,
    labelled_accuracies,
    labelled_accuracy,
)
from xlmr.drift.reference import Expected, Judged, Reference
from xlmr.drift.signals import EDGES, Signals, Sketch, empty_sketch


def said(*confidences: float) -> Sketch:
    sketch = empty_sketch(0)
    for confidence in confidences:
        place = bisect_right(EDGES["confidence"], confidence)
        sketch.rows += 1
        sketch.bins["confidence"][place] += 1
        sketch.millionths[place] += round(confidence * 1e6)
    return sketch


def judged(sketch: Sketch, right: float) -> Expected:
    """A reference in which the same share of every bin was right."""
    rows = sketch.bins["confidence"]
    return Expected(
        sketch, Judged(rows, [round(count * right) for count in rows], sketch.millionths)
    )


def test_without_a_reference_it_is_the_mean_confidence() -> None:
    found = estimated_accuracy(said(0.9, 0.8, 0.7))
    assert found is not None
    assert found.rows == 3
    assert found.share == pytest.approx(0.8)
    assert found.low < 0.5


def test_without_answers_there_is_none() -> None:
    assert estimated_accuracy(empty_sketch(0)) is None


def test_answers_that_are_all_certain_have_an_estimate() -> None:
    found = estimated_accuracy(said(*[1.0] * 100), judged(said(*[1.0] * 100), 1.0))
    assert found is not None
    assert 0.99 < found.share <= found.high <= 1.0


def test_what_the_reference_knows_better_counts_as_far_as_its_rows_bear_it() -> None:
    many, few = judged(said(*[0.9] * 4000), 0.8), judged(said(*[0.9] * 5), 0.8)
    now = said(*[0.9] * 2000)
    knows, guesses = estimated_accuracy(now, many), estimated_accuracy(now, few)
    assert knows is not None
    assert guesses is not None
    assert knows.share == pytest.approx(0.8, abs=0.01)
    assert 0.87 < guesses.share < 0.9
    assert knows.high - knows.low < guesses.high - guesses.low


def written(sketch: Sketch, *, otherwise: int) -> Sketch:
    """So many of the texts need more pieces a character than the others."""
    bins = sketch.bins["tokens_per_character"]
    bins[12], bins[20] = sketch.rows - otherwise, otherwise
    return sketch


def test_the_interval_reaches_down_where_texts_are_written_otherwise() -> None:
    usual = written(said(*[0.9] * 1000), otherwise=0)
    reference = Expected(usual, judged(usual, 0.9).judged)
    found = [
        estimated_accuracy(written(said(*[0.9] * 1000), otherwise=count), reference)
        for count in (0, 10, 400)
    ]
    as_ever, hardly, many = (one for one in found if one is not None)
    assert as_ever == hardly
    assert (many.share, many.high) == (as_ever.share, as_ever.high)
    assert many.low == pytest.approx(as_ever.low - 0.4, abs=0.1)


def test_every_language_with_answers_has_one() -> None:
    expected = {"de": judged(said(*[0.9] * 500), 0.9)}
    reference = Reference("classify", "held-out", (), expected, {})
    languages = {"sw": said(0.6), "de": said(0.9), "th": empty_sketch(0)}
    found = estimated_accuracies(reference, Signals("3", "classify", (), languages))
    assert list(found) == ["de", "sw"]


def test_intervals_of_all_languages_hold_at_all_times_together() -> None:
    rng, truth, missed, runs = np.random.default_rng(0), 0.8, 0, 60
    for _ in range(runs):
        right_LN = (rng.random((3, 400)) < truth).cumsum(axis=1)
        held = all(
            accuracy.low <= truth <= accuracy.high
            for row in range(0, 400, 8)
            for accuracy in labelled_accuracies(
                {str(name): Labelled(row + 1, int(right_LN[name, row])) for name in range(3)},
                alpha=0.2,
            ).values()
        )
        missed += not held
    assert missed <= 0.2 * runs


def test_labels_add_up() -> None:
    assert Labelled(10, 8) + Labelled(5, 5) == Labelled(15, 13)
    with pytest.raises(ValueError, match="6 right of 5"):
        Labelled(5, 6)
    assert labelled_accuracy(Labelled()) == Accuracy(0, 0.5, 0.0, 1.0)


def test_somebody_is_woken_only_where_it_is_shown() -> None:
    assert labelled_accuracy(Labelled(1000, 700)).below(0.8)
    assert not labelled_accuracy(Labelled(10, 7)).below(0.8)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_level_that_cannot_be_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        labelled_accuracy(Labelled(5, 5), alpha=alpha)
