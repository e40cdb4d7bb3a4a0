"""Strict span F1 over IOB2 tags: a span counts only with its label and both its ends right.

Strict means that a span begins with `B-` and nothing else: an `I-` that continues no span of its
label belongs to none. Written here rather than taken from seqeval, which has been without a
release since 2020 and comes as source only; the tests hold both to the same figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """`start` to `end` (exclusive), in words or in characters: the same on both sides."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class SpanScore:
    """Precision, recall and F1; 0 where nothing was predicted, or nothing is gold.

    Attributes:
        precision: share of predicted spans that are gold.
        recall: share of gold spans that were predicted.
        f1: their harmonic mean.
        gold: number of gold spans.
        predicted: number of predicted spans.
    """

    precision: float
    recall: float
    f1: float
    gold: int
    predicted: int


@dataclass(frozen=True, slots=True)
class SpanReport:
    """All spans alike (`micro`), each label by itself, and the plain mean of the labels' F1."""

    micro: SpanScore
    by_label: dict[str, SpanScore]
    macro_f1: float


def spans_of(tags: Sequence[str]) -> frozenset[Span]:
    """The spans of one sentence's tags, in words.

    Raises:
        ValueError: a tag is neither `O` nor `B-` or `I-` with a label.
    """
    spans = []
    label, start = "", 0
    for place, tag in enumerate([*tags, "O"]):
        prefix, dash, name = tag.partition("-")
        if tag != "O" and (prefix not in ("B", "I") or not dash or not name):
            raise ValueError(f"tag {place}: not O, B-LABEL or I-LABEL")
        if prefix == "I" and name == label:
            continue
        if label:
            spans.append(Span(start, place, label))
        label, start = (name, place) if prefix == "B" else ("", 0)
    return frozenset(spans)


def span_counts(gold: Sequence[Set[Span]], predicted: Sequence[Set[Span]]) -> NDArray[np.int64]:
    """Hits, gold spans and predicted spans of every sentence, [N, 3]: what a bootstrap draws from.

    Raises:
        ValueError: no sentences, or lengths that differ.
    """
    _check(gold, predicted)
    rows = [(len(g & p), len(g), len(p)) for g, p in zip(gold, predicted, strict=True)]
    return np.array(rows, np.int64)


def f1_of_counts(counts_N3: NDArray[np.int64]) -> float:
    """Micro F1 of the sentences' counts; 0 where there is no span on either side."""
    hits, gold, predicted = (int(total) for total in counts_N3.sum(axis=0))
    return 2.0 * hits / max(gold + predicted, 1)


def span_report(gold: Sequence[Set[Span]], predicted: Sequence[Set[Span]]) -> SpanReport:
    """Scores sentences of spans. Labels that occur on either side are listed, in order.

    Raises:
        ValueError: no sentences, or lengths that differ.
    """
    _check(gold, predicted)
    gold_count = Counter(span.label for spans in gold for span in spans)
    predicted_count = Counter(span.label for spans in predicted for span in spans)
    both = zip(gold, predicted, strict=True)
    hits = Counter(span.label for g, p in both for span in g & p)
    by_label = {
        label: _score(hits[label], gold_count[label], predicted_count[label])
        for label in sorted(gold_count | predicted_count)
    }
    return SpanReport(
        micro=_score(hits.total(), gold_count.total(), predicted_count.total()),
        by_label=by_label,
        macro_f1=sum(score.f1 for score in by_label.values()) / max(len(by_label), 1),
    )


def _score(hits: int, gold: int, predicted: int) -> SpanScore:
    return SpanScore(
        precision=hits / max(predicted, 1),
        recall=hits / max(gold, 1),
        f1=2.0 * hits / max(gold + predicted, 1),
        gold=gold,
        predicted=predicted,
    )


def _check(gold: Sequence[Set[Span]], predicted: Sequence[Set[Span]]) -> None:
    if len(gold) == 0 or len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold and {len(predicted)} predicted sentences")
