"""Documents that look right and are not: found before training with the encoder's own vectors.

Candidates for a query are the documents of its language, since a translation of the right document
would be right too. Left out are the documents that any row gives as right for that query, texts
equal to one of them or to the query itself, and whatever is suspiciously near: more than 0.95 of
the way from the query's mean similarity up to that of its positive. (A share of the similarity
itself, as de Souza P. Moreira et al. 2024, "NV-Retriever", use it, says little about models whose
cosines all lie between 0.7 and 1.) What is left is taken from the top.

Shapes: Q queries, N documents, K kept, D vector width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray

from xlmr.evaluation.near_duplicates import same_sentence
from xlmr.evaluation.suites import RankRow
from xlmr.model.bundle import Bundle
from xlmr.training.sentence_vectors import Told, Vectors, served_vectors

# (texts, name of a prompt, who hears how far it is) → their vectors at length 1.
Embed = Callable[[Sequence[str], str, Told], Vectors]

_SUSPICIOUS = 0.95
# Similarities held at a time: 64 MB of float32.
_BLOCK = 2**24


def identity(text: str) -> str:
    """What is the same for texts that are no evidence against each other."""
    return same_sentence(text) or text


def right_answers(rows: Sequence[RankRow]) -> dict[str, set[str]]:
    """Identity of a query → identities of every document that some row gives as right for it."""
    right: dict[str, set[str]] = {}
    for row in rows:
        right.setdefault(identity(row.query), set()).add(identity(row.positive))
    return right


def mine(
    bundle: Bundle,
    rows: Sequence[RankRow],
    count: int,
    *,
    prompts: tuple[str, str],
    told: Told | None = None,
) -> list[tuple[str, ...]]:
    """At most `count` negatives for each row, hardest first, none of them among its own.

    The same for the same rows. A row of a language with nothing else to find gets fewer.

    Args:
        bundle: whose vectors say what is near.
        rows: their positives and negatives are what is searched.
        count: of negatives, at most.
        prompts: names of those of queries and of documents.
        told: hears how far it is.

    Raises:
        ModelError: the runtime cannot compute this model.
    """
    return mine_with(
        lambda texts, prompt, told: served_vectors(bundle, texts, prompt=prompt, told=told),
        rows,
        count,
        prompts=prompts,
        told=told,
    )


def mine_with(
    embed: Embed,
    rows: Sequence[RankRow],
    count: int,
    *,
    prompts: tuple[str, str],
    told: Told | None = None,
) -> list[tuple[str, ...]]:
    """`mine` with vectors from anywhere."""
    queries = list(dict.fromkeys(row.query for row in rows))
    documents = list(dict.fromkeys(text for row in rows for text in (row.positive, *row.negatives)))
    query_place = {text: i for i, text in enumerate(queries)}
    document_place = {text: i for i, text in enumerate(documents)}
    part = len(queries) / max(len(queries) + len(documents), 1)
    query_QD = embed(queries, prompts[0], _within(told, 0.0, part))
    document_ND = embed(documents, prompts[1], _within(told, part, 1.0))
    right = right_answers(rows)
    found: list[tuple[str, ...]] = [()] * len(rows)
    for places in _by_language(rows).values():
        names, first = _distinct([rows[i] for i in places])
        candidates = [document_place[text] for text in first]
        vectors_ND = document_ND[candidates]
        block = max(1, _BLOCK // len(first))
        for start in range(0, len(places), block):
            here = places[start : start + block]
            asked_QD = query_QD[[query_place[rows[i].query] for i in here]]
            wanted_QD = document_ND[[document_place[rows[i].positive] for i in here]]
            scores_QN = _without_suspicious(asked_QD @ vectors_ND.T, asked_QD, wanted_QD)
            for scores_N, i in zip(scores_QN, here, strict=True):
                scores_N[_places(names, excluded(rows[i], right))] = -np.inf
                found[i] = tuple(first[n] for n in _top(scores_N, count))
    return found


def drawn(
    rows: Sequence[RankRow], taken: Sequence[Sequence[str]], count: int
) -> list[tuple[str, ...]]:
    """Documents at random, of a row's language and not known to be right, up to `count` a row.

    Args:
        rows: whose documents are drawn from.
        taken: what each row has already, in addition to its own; not drawn again.
        count: how many each row gets, at most.
    """
    right = right_answers(rows)
    found: list[tuple[str, ...]] = [()] * len(rows)
    for places in _by_language(rows).values():
        names, first = _distinct([rows[i] for i in places])
        for i in places:
            banned = excluded(rows[i], right) | set(map(identity, taken[i]))
            # So many are enough even if every one that may not be taken is among them.
            order = np.random.default_rng(i).permutation(len(first))[: count + len(banned)]
            banned_places = set(_places(names, banned))
            kept = [first[n] for n in order.tolist() if n not in banned_places]
            found[i] = tuple(kept[:count])
    return found


def excluded(row: RankRow, right: Mapping[str, Set[str]]) -> set[str]:
    """Identities of what may be no further negative of a row."""
    asked = identity(row.query)
    return {asked, identity(row.positive), *map(identity, row.negatives), *right.get(asked, ())}


def _within(told: Told | None, start: float, end: float) -> Told:
    """Hears of a part, tells of the whole."""

    def tell(*, done: float, tokens: int) -> None:
        if told is not None:
            told(done=start + (end - start) * done, tokens=tokens)

    return tell


def _by_language(rows: Sequence[RankRow]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        places.setdefault(row.language, []).append(i)
    return places


def _distinct(rows: Sequence[RankRow]) -> tuple[dict[str, int], list[str]]:
    """Identity → place of the documents of some rows, and the first text of each identity."""
    first: dict[str, str] = {}
    for row in rows:
        for text in (row.positive, *row.negatives):
            first.setdefault(identity(text), text)
    return {name: i for i, name in enumerate(first)}, list(first.values())


def _places(names: Mapping[str, int], wanted: Set[str]) -> list[int]:
    return [names[name] for name in wanted if name in names]


def _without_suspicious(
    scores_QN: NDArray[np.float32], asked_QD: Vectors, wanted_QD: Vectors
) -> NDArray[np.float32]:
    """The scores, -inf where a document is nearly as near as the positive, or nearer."""
    floor_Q1 = scores_QN.mean(axis=1, keepdims=True)
    positive_Q1 = np.einsum("qd,qd->q", asked_QD, wanted_QD)[:, None]
    limit_Q1 = floor_Q1 + _SUSPICIOUS * (positive_Q1 - floor_Q1)
    kept: NDArray[np.float32] = np.where(scores_QN <= limit_Q1, scores_QN, np.float32(-np.inf))
    return kept


def _top(scores_N: NDArray[np.float32], count: int) -> list[int]:
    """Places of the highest scores, falling; of equal ones the first comes first."""
    if count < len(scores_N):
        least = np.partition(scores_N, -count)[-count]
        candidates = np.flatnonzero((scores_N >= least) & np.isfinite(scores_N))
    else:
        candidates = np.flatnonzero(np.isfinite(scores_N))
    ordered = candidates[np.argsort(-scores_N[candidates], kind="stable")]
    places: list[int] = ordered[:count].tolist()
    return places
