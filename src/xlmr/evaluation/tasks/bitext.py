"""Translations found among all sentences of the other side, as Tatoeba is scored.

Figure: the mean of both directions. For each sentence the nearest by cosine is taken among all the
English sentences of the language's rows, and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xlmr.evaluation.metrics.draws import means
from xlmr.evaluation.metrics.ranking import bitext_hits
from xlmr.evaluation.suites import Table
from xlmr.evaluation.tasks.evaluator import (
    Answered,
    Floats,
    Judged,
    answered,
    chunks,
    prompt_for,
)
from xlmr.model.predictor import Predictor


def make(predictor: Predictor, files: Sequence[Table[Any]], *, seed: int) -> Bitext:
    """See the module."""
    return Bitext(predictor)


class Bitext:
    """Values: whether the translation was found, into English and from it."""

    metric = "bitext_accuracy"
    keeps_outcomes = False

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._prompt = prompt_for(predictor, "query")

    def answers(self, rows: Sequence[Any]) -> Iterator[Answered]:
        """The vectors of both sentences."""
        for chunk in chunks(rows):
            texts = [row.text for row in chunk] + [row.english for row in chunk]
            vectors = self._predictor.embed(texts, prompt=self._prompt)
            for row, own, english in zip(chunk, vectors, vectors[len(chunk) :], strict=False):
                both = (own.vector, english.vector)
                yield answered(row, both, own.accounting, english.accounting)

    def values(self, answered: Sequence[Answered]) -> Floats:
        """Into English and from it, [N, 2]."""
        own_ND = np.stack([answer.outcome[0] for answer in answered])
        english_ND = np.stack([answer.outcome[1] for answer in answered])
        return np.stack(bitext_hits(own_ND, english_ND), axis=1).astype(float)

    def figures(self, values_NK: Floats, counts_SN: Floats) -> Floats:
        """The mean of both directions."""
        return means(values_NK, counts_SN)

    def more(self, judged: Sequence[Judged]) -> Mapping[str, float]:
        """Each direction by itself; published tables mostly show the first."""
        into, out_of = np.mean([row.values for row in judged], axis=0)
        return {"into_english": float(into), "from_english": float(out_of)}
