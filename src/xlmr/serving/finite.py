"""Nothing that is no number leaves the server: NaN and infinity are the version's fault. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xlmr.errors import NonFiniteError
from xlmr.types import Classification, Embedding, Filling, Ranked, SpanAnswer, Tagging

if TYPE_CHECKING:
    from numpy.typing import NDArray


def require_finite_vectors(vectors: Iterable[NDArray[np.float32]]) -> None:
    """Refuses vectors of an encoder that are no numbers; a microsecond for ten thousand.

    Raises:
        NonFiniteError: one is NaN or infinite.
    """
    for vector in vectors:
        if not is_finite(vector):
            raise _fault()


def require_finite(answers: Iterable[Any]) -> None:
    """Refuses answers that say what is no number.

    Raises:
        NonFiniteError: a score or a vector is NaN or infinite.
    """
    for answer in answers:
        if isinstance(answer, Embedding):
            fine = is_finite(answer.vector)
        else:
            # A sum with one that is no number is none either.
            fine = math.isfinite(sum(_scores(answer)))
        if not fine:
            raise _fault()


def _scores(answer: Any) -> Sequence[float]:
    match answer:
        case Classification():
            return [label.score for label in answer.labels]
        case Tagging():
            return [entity.score for entity in answer.entities]
        case SpanAnswer():
            return (answer.score, answer.no_answer_score)
        case Filling():
            return [candidate.score for mask in answer.masks for candidate in mask]
        case Ranked():
            return (answer.score,)
    return ()


def is_finite(vector: NDArray[np.float32]) -> bool:
    """By its length, which is cheaper than to look at each number; none is large enough to matter.

    `dot`, because `@` warns of what is looked for here.
    """
    flat = vector.ravel()
    return math.isfinite(np.dot(flat, flat))


def _fault() -> NonFiniteError:
    return NonFiniteError(
        "the model computed what is no number",
        hint="another version may answer: name@VERSION",
    )
