"""Strict span F1: cases by hand, and figures that seqeval 1.2.2 gave.

Golden figures: `seqeval.metrics.v1.precision_recall_fscore_support(gold, predicted, mode="strict",
scheme=IOB2)` of seqeval 1.2.2 on the sentences below. The same call agreed on 3000 random
quadruples of sentences over two labels when this module was written.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.evaluation.metrics.spans import Span, f1_of_counts, span_counts, span_report, spans_of

GOLD = [
    "B-PER I-PER O B-LOC O B-ORG I-ORG I-ORG",
    "O B-PER B-PER O I-LOC O",
    "B-LOC I-PER I-LOC O",
    "O O",
]
PREDICTED = [
    "B-PER I-PER O B-LOC I-LOC B-ORG I-ORG I-ORG",
    "O B-PER I-PER O B-LOC O",
    "B-LOC I-LOC I-LOC B-PER",
    "I-PER O",
]


def spans(sentences: list[str]) -> list[frozenset[Span]]:
    return [spans_of(sentence.split()) for sentence in sentences]


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O O", []),
        ("B-PER", [Span(0, 1, "PER")]),
        ("B-PER I-PER O B-LOC", [Span(0, 2, "PER"), Span(3, 4, "LOC")]),
        ("B-PER B-PER I-PER", [Span(0, 1, "PER"), Span(1, 3, "PER")]),
        ("I-PER I-PER", []),
        ("B-PER I-LOC I-PER", [Span(0, 1, "PER")]),
        ("B-PER O I-PER", [Span(0, 1, "PER")]),
        ("B-WORK-OF-ART I-WORK-OF-ART", [Span(0, 2, "WORK-OF-ART")]),
        ("", []),
    ],
)
def test_a_span_begins_with_b_and_nothing_else(tags: str, found: list[Span]) -> None:
    assert sorted(spans_of(tags.split())) == sorted(found)


@pytest.mark.parametrize("tag", ["X", "B", "I-", "", "S-PER", "-PER"])
def test_other_tags_are_refused_by_place(tag: str) -> None:
    with pytest.raises(ValueError, match="tag 1: not O"):
        spans_of(["O", tag])


def test_figures_of_seqeval() -> None:
    report = span_report(spans(GOLD), spans(PREDICTED))
    micro = report.micro
    assert (micro.precision, micro.recall, micro.f1) == pytest.approx((2 / 7, 1 / 3, 4 / 13))
    assert {label: score.f1 for label, score in report.by_label.items()} == pytest.approx(
        {"LOC": 0.0, "ORG": 1.0, "PER": 1 / 3}
    )
    assert [score.gold for score in report.by_label.values()] == [2, 1, 3]
    assert report.macro_f1 == pytest.approx(4 / 9)


tags = st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), min_size=1, max_size=8)


@given(st.lists(st.tuples(tags, tags), min_size=1, max_size=6))
def test_properties(rows: list[tuple[list[str], list[str]]]) -> None:
    gold = [spans_of(g) for g, _ in rows]
    predicted = [spans_of(p) for _, p in rows]
    there, back = span_report(gold, predicted).micro, span_report(predicted, gold).micro
    assert (there.precision, there.recall) == (back.recall, back.precision)
    assert min(there.precision, there.recall) <= there.f1 + 1e-12
    assert f1_of_counts(span_counts(gold, predicted)) == pytest.approx(there.f1)
    assert span_report(gold, gold).micro.f1 == float(any(gold))


def test_the_counts_of_drawn_sentences_score_those_sentences() -> None:
    counts = span_counts(spans(GOLD), spans(PREDICTED))
    drawn = np.array([0, 0, 1])
    again = span_report(spans([GOLD[i] for i in drawn]), spans([PREDICTED[i] for i in drawn]))
    assert f1_of_counts(counts[drawn]) == pytest.approx(again.micro.f1)


def test_nothing_has_no_score() -> None:
    with pytest.raises(ValueError, match="0 gold and 0 predicted"):
        span_report([], [])
    with pytest.raises(ValueError, match="1 gold and 0 predicted"):
        span_counts([frozenset()], [])
