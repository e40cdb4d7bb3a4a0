from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xlmr.drift.label_free import accuracy_of_labels, estimated_accuracy
from xlmr.drift.label_shift import Floats, accuracy_of_shifted, frequencies, moved
from xlmr.drift.reference import Expected, Judged
from xlmr.drift.signals import Sketch, empty_sketch

# Said, by what is right: good at the first label, weak at the second.
RATES_ST = np.array([[0.9, 0.4], [0.1, 0.6]])
COUNTS = st.integers(0, 400)


def confused(first: int, second: int) -> list[list[int]]:
    """With a third bin, of labels that nobody promised."""
    rows = np.round(RATES_ST * [first, second]).astype(int)
    return [[*rows[0].tolist(), 0], [*rows[1].tolist(), 0], [0, 0, 0]]


def said(first: int, second: int) -> list[int]:
    return [sum(row) for row in confused(first, second)]


@given(arrays(np.int64, (3, 3), elements=COUNTS), arrays(np.int64, 3, elements=COUNTS))
def test_frequencies_are_shares_whatever_was_counted(
    seen_ST: np.ndarray, said_S: np.ndarray
) -> None:
    rates = (seen_ST + 1.0) / (seen_ST.sum(axis=0) + 3.0)
    (often_T,) = frequencies(rates[None], said_S[None].astype(float))
    assert (often_T >= 0.0).all()
    assert often_T.sum() == pytest.approx(1.0)


@given(st.floats(0.02, 0.98))
def test_frequencies_are_found_again(share: float) -> None:
    said_S = RATES_ST @ np.array([share, 1.0 - share]) * 10_000.0
    (often_T,) = frequencies(RATES_ST[None], said_S[None])
    assert often_T[0] == pytest.approx(share, abs=0.02)


@given(
    arrays(np.int64, (3, 3), elements=COUNTS),
    arrays(np.int64, 3, elements=COUNTS),
    st.floats(0.5, 0.99),
)
def test_an_interval_holds_its_share(
    seen_ST: np.ndarray, said_S: np.ndarray, confidence: float
) -> None:
    found = accuracy_of_shifted(seen_ST.tolist(), said_S.tolist(), confidence=confidence)
    assert found is None or 0.0 <= found.low <= found.share <= found.high <= 1.0


@given(st.integers(1, 1000), st.integers(1, 1000), st.integers(2, 50))
def test_labels_in_the_same_numbers_did_not_move(first: int, second: int, times: int) -> None:
    before: Floats = np.array([first, second, 0], np.float64)
    assert not moved(before, before * times)


def test_labels_move_by_chance_as_rarely_as_is_said() -> None:
    rng = np.random.default_rng(0)
    shares = [0.5, 0.3, 0.15, 0.05]
    draws = rng.multinomial(500, shares, (1000, 2)).astype(float)
    assert np.mean([moved(before, now) for before, now in draws]) < 0.02


def test_more_of_what_the_model_is_weak_at_is_less_right() -> None:
    found = accuracy_of_shifted(confused(1000, 1000), said(200, 1800), confidence=0.95)
    assert found is not None
    assert found.share == pytest.approx(0.9 * 0.1 + 0.6 * 0.9, abs=0.02)
    assert found.low < 0.63 < found.high
    assert found.high - found.low < 0.2


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (confused(1000, 1000), said(500, 500)),
        (confused(1000, 10), said(200, 1800)),
        ([], said(200, 1800)),
        (confused(1000, 1000), [0, 0, 0]),
    ],
    ids=["as ever", "hardly known", "unknown", "nothing said"],
)
def test_where_nothing_tells_there_is_none(before: list[list[int]], now: list[int]) -> None:
    assert accuracy_of_shifted(before, now, confidence=0.95) is None


def test_intervals_hold_the_truth_of_labels_that_shifted() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(100):
        before = np.array([rng.multinomial(400, rates) for rates in RATES_ST.T]).T
        seen = [[*before[0].tolist(), 0], [*before[1].tolist(), 0], [0, 0, 0]]
        truth_T = rng.multinomial(600, [0.15, 0.85])
        now = np.array([rng.multinomial(truth_T[t], RATES_ST[:, t]) for t in range(2)]).T
        found = accuracy_of_shifted(seen, [*now.sum(axis=1).tolist(), 0], confidence=0.95)
        assert found is not None
        held += found.low <= float(np.trace(now)) / 600.0 <= found.high
    assert held >= 88


def sketch(labels: list[int], confidence: float) -> Sketch:
    found = empty_sketch(2)
    rows = found.rows = sum(labels)
    found.bins["label"] = labels
    found.bins["confidence"][14] = rows
    found.millionths[14] = round(rows * confidence * 1_000_000)
    return found


def test_an_estimates_interval_holds_both() -> None:
    before = sketch(said(1000, 1000), 0.75)
    rows = before.bins["confidence"]
    right = [round(count * 0.75) for count in rows]
    known = Judged(rows, right, before.millionths, confused(1000, 1000))
    now = sketch(said(200, 1800), 0.75)
    both = estimated_accuracy(now, Expected(before, known))
    alone = estimated_accuracy(now, Expected(before, Judged(rows, right, before.millionths)))
    labels = accuracy_of_labels(now, Expected(before, known))
    assert both is not None
    assert alone is not None
    assert labels is not None
    assert both.share == alone.share == pytest.approx(0.75, abs=0.01)
    assert (both.low, both.high) == (labels.low, alone.high)
    assert labels.low < labels.share < alone.low
