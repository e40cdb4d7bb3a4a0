"""A number for a text. Figure: rank correlation with the gold numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xlmr.errors import DataError
from xlmr.evaluation.metrics.draws import rank_correlations
from xlmr.evaluation.metrics.regression import pearson
from xlmr.evaluation.suites import Table
from xlmr.evaluation.tasks.evaluator import Answered, Floats, Judged, answered, chunks
from xlmr.model.predictor import Predictor


def make(predictor: Predictor, files: Sequence[Table[Any]], *, seed: int) -> Score:
    """See the module.

    Raises:
        DataError: the model gives labels, not a number.
        TaskError: the model is no classifier.
    """
    first = files[0].rows[0].input
    [answer] = predictor.classify([first if len(first) > 1 else first[0]])
    if len(answer.labels) != 1:
        raise DataError(
            f"the model gives {len(answer.labels)} labels, not a number",
            hint="rows with a score need a model trained with --task score",
        )
    return Score(predictor)


class Score:
    """Values: the gold number and the model's. Texts, or pairs of them."""

    metric = "spearman"
    keeps_outcomes = False

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def answers(self, rows: Sequence[Any]) -> Iterator[Answered]:
        """The output itself, on the scale that was learned."""
        for chunk in chunks(rows):
            items = [row.input if len(row.input) > 1 else row.input[0] for row in chunk]
            answers = self._predictor.classify(items, raw_scores=True)
            for row, answer in zip(chunk, answers, strict=True):
                yield answered(row, answer.score, answer.accounting)

    def values(self, answered: Sequence[Answered]) -> Floats:
        """Gold and predicted, [N, 2]."""
        return np.array([[answer.row.score, answer.outcome] for answer in answered], float)

    def figures(self, values_NK: Floats, counts_SN: Floats) -> Floats:
        """Spearman's correlation, -1 to 1; 0 where fewer than two rows tell nothing."""
        return rank_correlations(values_NK, counts_SN)

    def more(self, judged: Sequence[Judged]) -> Mapping[str, float]:
        """Pearson's correlation, and how far off the numbers are on average."""
        gold_N, given_N = np.array([row.values for row in judged], float).T
        found = {"mean_error": float(np.mean(np.abs(gold_N - given_N)))}
        return {"pearson": pearson(gold_N, given_N)} | found if len(judged) > 1 else found
