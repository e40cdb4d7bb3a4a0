"""Extractive question answering. Figure: F1 of the answers' words, forgiving what MLQA forgives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xlmr.evaluation.metrics.answers import answer_f1, exact_match
from xlmr.evaluation.metrics.draws import means
from xlmr.evaluation.suites import Table
from xlmr.evaluation.tasks.evaluator import Answered, Floats, Judged, answered, chunks
from xlmr.model.predictor import Predictor
from xlmr.text.codes import short_code

# A context may be many windows: fewer rows make a second's work.
_CHUNK_ROWS = 16


def make(predictor: Predictor, files: Sequence[Table[Any]], *, seed: int) -> Answer:
    """See the module."""
    return Answer(predictor)


class Answer:
    """Values: F1 and exact match of the row."""

    metric = "f1"
    keeps_outcomes = False

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def answers(self, rows: Sequence[Any]) -> Iterator[Answered]:
        """F1 and exact match of the model's answer, by the rules of the row's language."""
        for chunk in chunks(rows, _CHUNK_ROWS):
            answers = self._predictor.answer([(row.question, row.context) for row in chunk])
            for row, answer in zip(chunk, answers, strict=True):
                golds = [gold.text for gold in row.answers]
                rules = short_code(row.language)
                scores = tuple(
                    measure(answer.text, golds, rules) for measure in (answer_f1, exact_match)
                )
                yield answered(row, scores, answer.accounting)

    def values(self, answered: Sequence[Answered]) -> Floats:
        """F1 and exact match, [N, 2]."""
        return np.array([answer.outcome for answer in answered], float)

    def figures(self, values_NK: Floats, counts_SN: Floats) -> Floats:
        """Mean F1."""
        return means(values_NK[:, 0], counts_SN)

    def more(self, judged: Sequence[Judged]) -> Mapping[str, float]:
        """Exact match."""
        return {"exact_match": float(np.mean([row.values[1] for row in judged]))}
