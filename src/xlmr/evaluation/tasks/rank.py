"""Documents found by sentence vectors. Figure: mean reciprocal rank.

A query is held against every document of its language, those that do not answer included; documents
that other rows name for the same query count as right too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xlmr.evaluation.metrics.draws import means
from xlmr.evaluation.metrics.ranking import ndcg_at, recall_at, reciprocal_rank
from xlmr.evaluation.suites import Table
from xlmr.evaluation.tasks.evaluator import (
    Answered,
    Floats,
    Judged,
    answered,
    chunks,
    prompt_for,
    unit,
)
from xlmr.model.predictor import Predictor
from xlmr.types import Embedding

FIGURES = ("mrr", "ndcg@10", "recall@1", "recall@10")


def make(predictor: Predictor, files: Sequence[Table[Any]], *, seed: int) -> Rank:
    """See the module."""
    return Rank(predictor)


class Rank:
    """Values: reciprocal rank, nDCG@10, recall@1 and recall@10 of the row's query."""

    metric = "mrr"
    keeps_outcomes = False

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._of_query = prompt_for(predictor, "query")
        self._of_document = prompt_for(predictor, "passage", "document")

    def answers(self, rows: Sequence[Any]) -> Iterator[Answered]:
        """The query's vector, and those of the row's documents that no earlier row has."""
        seen: set[str] = set()
        for chunk in chunks(rows):
            queries = self._predictor.embed([r.query for r in chunk], prompt=self._of_query)
            fresh: list[list[str]] = []
            for row in chunk:
                fresh.append([d for d in dict.fromkeys(documents_of(row)) if d not in seen])
                seen.update(fresh[-1])
            found = self._documents([document for each in fresh for document in each])
            for row, query, own in zip(chunk, queries, fresh, strict=True):
                vectors = {document: unit(found[document].vector) for document in own}
                costs = [found[document].accounting for document in own]
                yield answered(row, (unit(query.vector), vectors), query.accounting, *costs)

    def values(self, answered: Sequence[Answered]) -> Floats:
        """See the class, [N, 4]."""
        vectors = {d: v for answer in answered for d, v in answer.outcome[1].items()}
        place = {document: i for i, document in enumerate(vectors)}
        known_MD = np.stack(list(vectors.values()))
        right = positives([answer.row for answer in answered])
        return np.array(
            [
                ranking_figures(
                    np.argsort(-(known_MD @ answer.outcome[0]), kind="stable").tolist(),
                    {place[document] for document in right[answer.row.query]},
                )
                for answer in answered
            ]
        )

    def figures(self, values_NK: Floats, counts_SN: Floats) -> Floats:
        """Mean reciprocal rank of the first right document."""
        return means(values_NK[:, 0], counts_SN)

    def more(self, judged: Sequence[Judged]) -> Mapping[str, float]:
        """The other means."""
        means = np.mean([row.values for row in judged], axis=0).tolist()
        return dict(zip(FIGURES[1:], means[1:], strict=True))

    def _documents(self, texts: Sequence[str]) -> dict[str, Embedding]:
        found = self._predictor.embed(texts, prompt=self._of_document) if texts else []
        return dict(zip(texts, found, strict=True))


def documents_of(row: Any) -> tuple[str, ...]:
    """All documents of a row."""
    return row.positive, *row.negatives


def positives(rows: Sequence[Any]) -> dict[str, set[str]]:
    """Every right document of each query."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.query, set()).add(row.positive)
    return found


def ranking_figures(ranking: Sequence[int], right: set[int]) -> tuple[float, ...]:
    """The four values of a ranking, as `FIGURES` names them."""
    return (
        reciprocal_rank(ranking, right),
        ndcg_at(ranking, dict.fromkeys(right, 1.0)),
        recall_at(ranking, right, 1),
        recall_at(ranking, right, 10),
    )
