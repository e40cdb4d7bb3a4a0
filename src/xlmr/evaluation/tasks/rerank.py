"""Documents put in order by a model that reads query and document together. Figure: MRR.

A row's own documents are ranked: the one that answers among those that do not. Where a row names
none that do not, 19 that other rows of its language name are drawn, by the seed and the query.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xlmr.evaluation.metrics.draws import means
from xlmr.evaluation.suites import Table
from xlmr.evaluation.tasks.evaluator import Answered, Floats, Judged, answered
from xlmr.evaluation.tasks.rank import FIGURES, positives, ranking_figures
from xlmr.model.predictor import Predictor

_DRAWN = 19


def make(predictor: Predictor, files: Sequence[Table[Any]], *, seed: int) -> Rerank:
    """See the module."""
    return Rerank(predictor, seed)


class Rerank:
    """Values: as those of `rank`."""

    metric = "mrr"
    keeps_outcomes = False

    def __init__(self, predictor: Predictor, seed: int) -> None:
        self._predictor = predictor
        self._seed = seed

    def answers(self, rows: Sequence[Any]) -> Iterator[Answered]:
        """The values themselves."""
        right, documents = positives(rows), list(dict.fromkeys(row.positive for row in rows))
        for row in rows:
            generator = np.random.default_rng([self._seed, zlib.crc32(row.query.encode())])
            candidates = [row.positive, *self._others(row, documents, right, generator)]
            # Equal scores keep their order: the right one must not always stand first.
            generator.shuffle(candidates)
            ranked = self._predictor.rerank(row.query, candidates)
            figures = ranking_figures(
                [each.index for each in ranked], {candidates.index(row.positive)}
            )
            yield answered(row, figures, *(each.accounting for each in ranked))

    def values(self, answered: Sequence[Answered]) -> Floats:
        """See the class, [N, 4]."""
        return np.array([answer.outcome for answer in answered], float)

    def figures(self, values_NK: Floats, counts_SN: Floats) -> Floats:
        """Mean reciprocal rank of the right document."""
        return means(values_NK[:, 0], counts_SN)

    def more(self, judged: Sequence[Judged]) -> Mapping[str, float]:
        """The other means."""
        means = np.mean([row.values for row in judged], axis=0).tolist()
        return dict(zip(FIGURES[1:], means[1:], strict=True))

    def _others(
        self,
        row: Any,
        documents: Sequence[str],
        right: Mapping[str, set[str]],
        generator: np.random.Generator,
    ) -> list[str]:
        wrong = [d for d in dict.fromkeys(row.negatives) if d not in right[row.query]]
        if wrong:
            return wrong
        # A few more than are needed: those that answer as well fall out.
        count = min(_DRAWN + len(right[row.query]), len(documents))
        drawn = generator.choice(len(documents), count, replace=False)
        return [documents[i] for i in drawn if documents[i] not in right[row.query]][:_DRAWN]
