"""How well what was asked for stands at the top: one query at a time, so that means can be drawn.

A ranking is a sequence of document names, best first, each once. D vector width, N pairs.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray

# Rows of similarities held at a time: with 1000 columns of float32 about 4 MB.
_CHUNK_ROWS = 1024


def recall_at(ranking: Sequence[Hashable], relevant: Set[Hashable], k: int) -> float:
    """Share of the relevant documents that stand among the first `k`.

    Raises:
        ValueError: nothing is relevant, a document stands twice, or `k` below 1.
    """
    _check(ranking, len(relevant), k)
    return len(relevant & set(ranking[:k])) / len(relevant)


def reciprocal_rank(
    ranking: Sequence[Hashable], relevant: Set[Hashable], k: int | None = None
) -> float:
    """1 / rank of the first relevant document; 0 where none is ranked (among the first `k`).

    Raises:
        ValueError: as `recall_at`.
    """
    _check(ranking, len(relevant), 1 if k is None else k)
    for rank, document in enumerate(ranking[:k], start=1):
        if document in relevant:
            return 1.0 / rank
    return 0.0


def ndcg_at(ranking: Sequence[Hashable], gains: Mapping[Hashable, float], k: int = 10) -> float:
    """Gains of the first `k`, discounted by log2(rank + 1), over the best such sum there is.

    Gains count as they are (trec_eval's and scikit-learn's way), not as 2^gain - 1; documents
    without one count 0.

    Raises:
        ValueError: no gain above 0, a gain below 0, and as `recall_at`.
    """
    _check(ranking, sum(gain > 0 for gain in gains.values()), k)
    if min(gains.values()) < 0:
        raise ValueError("a gain is below 0")
    best = sorted(gains.values(), reverse=True)[:k]
    found = [gains.get(document, 0.0) for document in ranking[:k]]
    return min(_discounted(found) / _discounted(best), 1.0)


def bitext_hits(
    first_ND: NDArray[np.floating], second_ND: NDArray[np.floating]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each sentence's nearest by cosine is its translation: first → second, and back.

    Row i of one side translates row i of the other (Tatoeba). The means are the two accuracies.
    Where several are equally near, the first of them is taken.

    Raises:
        ValueError: no rows, shapes that differ, a vector of length 0, or a value not finite.
    """
    if len(first_ND) == 0 or first_ND.shape != second_ND.shape:
        raise ValueError(f"{first_ND.shape} and {second_ND.shape}: expected equal, not empty")
    first_ND, second_ND = _unit(first_ND), _unit(second_ND)
    return _nearest_is_own(first_ND, second_ND), _nearest_is_own(second_ND, first_ND)


def _nearest_is_own(
    asked_ND: NDArray[np.floating], known_ND: NDArray[np.floating]
) -> NDArray[np.bool_]:
    nearest = [
        np.argmax(asked_ND[start : start + _CHUNK_ROWS] @ known_ND.T, axis=1)
        for start in range(0, len(asked_ND), _CHUNK_ROWS)
    ]
    own: NDArray[np.bool_] = np.concatenate(nearest) == np.arange(len(asked_ND))
    return own


def _unit(vectors_ND: NDArray[np.floating]) -> NDArray[np.floating]:
    lengths_N = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths_N)) or not np.all(lengths_N > 0):
        raise ValueError("a vector has no direction")
    unit_ND: NDArray[np.floating] = vectors_ND / lengths_N
    return unit_ND


def _discounted(gains: Sequence[float]) -> float:
    return float(np.sum(np.array(gains) / np.log2(np.arange(2, len(gains) + 2))))


def _check(ranking: Sequence[Hashable], relevant: int, k: int) -> None:
    if relevant == 0:
        raise ValueError("nothing is relevant: the query has no score")
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1")
    if len(set(ranking)) != len(ranking):
        raise ValueError("a document stands twice in the ranking")
