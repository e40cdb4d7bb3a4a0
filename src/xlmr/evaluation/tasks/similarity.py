"""How similar two texts are. Figure: rank correlation of the vectors' cosine with the gold scores.

A model without sentence vectors that gives a number for a pair is scored by that number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import xlmr.evaluation.tasks.score as score
from xlmr.evaluation.metrics.draws import rank_correlations
from xlmr.evaluation.metrics.regression import pearson
from xlmr.evaluation.suites import Table
from xlmr.evaluation.tasks.evaluator import (
    Answered,
    Evaluator,
    Floats,
    Judged,
    answered,
    chunks,
    prompt_for,
    unit,
)
from xlmr.model.predictor import Predictor


def make(predictor: Predictor, files: Sequence[Table[Any]], *, seed: int) -> Evaluator:
    """See the module.

    Raises:
        DataError: the model has no sentence vectors, and gives labels rather than a number.
    """
    if "embed" not in predictor.tasks:
        return score.make(predictor, files, seed=seed)
    return Similarity(predictor)


class Similarity:
    """Values: the gold score and the cosine."""

    metric = "spearman"
    keeps_outcomes = False

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._prompt = prompt_for(predictor, "query")

    def answers(self, rows: Sequence[Any]) -> Iterator[Answered]:
        """The cosine of both vectors."""
        for chunk in chunks(rows):
            texts = [row.first for row in chunk] + [row.second for row in chunk]
            vectors = self._predictor.embed(texts, prompt=self._prompt)
            for row, a, b in zip(chunk, vectors, vectors[len(chunk) :], strict=False):
                cosine = float(unit(a.vector) @ unit(b.vector))
                yield answered(row, cosine, a.accounting, b.accounting)

    def values(self, answered: Sequence[Answered]) -> Floats:
        """Gold and cosine, [N, 2]."""
        return np.array([[answer.row.score, answer.outcome] for answer in answered], float)

    def figures(self, values_NK: Floats, counts_SN: Floats) -> Floats:
        """Spearman's correlation, -1 to 1; 0 where fewer than two rows tell nothing."""
        return rank_correlations(values_NK, counts_SN)

    def more(self, judged: Sequence[Judged]) -> Mapping[str, float]:
        """Pearson's correlation."""
        gold_N, given_N = np.array([row.values for row in judged], float).T
        return {"pearson": pearson(gold_N, given_N)} if len(judged) > 1 else {}
