"""How sure an answer is: what the histograms of confidence and entropy are fed with. Pure."""

from __future__ import annotations

from typing import Any

from xlmr.types import Classification, Embedding, Filling, Ranked, SpanAnswer, Tagging


def confidence(answer: Any) -> float | None:
    """The probability an answer gives to what it says, 0 to 1; None where it gives none.

    Of a tagging that of its least sure entity, of a filling that of its least sure mask. Sentence
    vectors, relevances and values say nothing of the kind.
    """
    if isinstance(answer, Embedding | Ranked):
        return None
    if isinstance(answer, Classification):
        return answer.labels[0].score if answer.labels and answer.entropy is not None else None
    if isinstance(answer, Tagging):
        return min((entity.score for entity in answer.entities), default=None)
    if isinstance(answer, SpanAnswer):
        return answer.score
    if isinstance(answer, Filling):
        return min((best[0].score for best in answer.masks if best), default=None)
    return None


def entropy(answer: Any) -> float | None:
    """In nats, over all labels; None where the answer is no choice among labels."""
    return answer.entropy if isinstance(answer, Classification) else None
