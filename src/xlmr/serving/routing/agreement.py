"""Whether two versions gave the same answer to a text. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from xlmr.types import Classification, Embedding, Filling, Ranked, SpanAnswer, Tagging

# Vectors that are less alike are other answers: neighbours in an index change places.
LEAST_COSINE = 0.99
# Values that are less alike, of the larger one, are other answers.
_VALUE_TOLERANCE = 0.05


def agree(one: Sequence[Any], other: Sequence[Any]) -> bool | None:
    """Whether two versions say the same of the first text; of documents, which is the best.

    Args:
        one: answers to the same texts in order; at least one.
        other: those of the other version.

    Returns:
        None where there is nothing to compare.
    """
    if not one or not other:
        return None
    if isinstance(one[0], Ranked):
        return _best(one) == _best(other)
    return _same(one[0], other[0])


def _same(one: Any, other: Any) -> bool | None:
    match one, other:
        case Classification(), Classification():
            return _same_labels(one, other)
        case Embedding(), Embedding():
            return _cosine(one.vector, other.vector) >= LEAST_COSINE
        case Tagging(), Tagging():
            spans = [[(e.label, e.start, e.end) for e in said.entities] for said in (one, other)]
            return spans[0] == spans[1]
        case SpanAnswer(), SpanAnswer():
            return (one.start, one.end, one.text) == (other.start, other.end, other.text)
        case Filling(), Filling():
            best = [[m[0].label if m else "" for m in said.masks] for said in (one, other)]
            return best[0] == best[1]
    return None


def _same_labels(one: Classification, other: Classification) -> bool | None:
    if one.chosen is not None and other.chosen is not None:
        return set(one.chosen) == set(other.chosen)
    if not one.labels or not other.labels:
        return None
    if len(one.labels) == len(other.labels) == 1 and one.entropy is None and other.entropy is None:
        # A value rather than a choice.
        return math.isclose(
            one.score, other.score, rel_tol=_VALUE_TOLERANCE, abs_tol=_VALUE_TOLERANCE
        )
    return one.label == other.label


def _cosine(one: Any, other: Any) -> float:
    """Of vectors of the same shape; else 0."""
    if one.shape != other.shape:
        return 0.0
    mine, theirs = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    size = math.sqrt(float(mine @ mine) * float(theirs @ theirs))
    return float(mine @ theirs) / size if size else float(np.array_equal(mine, theirs))


def _best(documents: Sequence[Ranked]) -> int:
    """The place of the most relevant document."""
    return max(documents, key=lambda document: document.score).index
