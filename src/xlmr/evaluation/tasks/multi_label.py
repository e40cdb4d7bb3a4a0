"""Any number of labels for a text. Figure: F1 over all decisions.

Labels are given as the model gives them: from its thresholds, or from one half where it has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xlmr.evaluation.metrics.calibration import ece
from xlmr.evaluation.metrics.classification import auroc, average_precision, multi_label_f1
from xlmr.evaluation.metrics.draws import f1_of_counts
from xlmr.evaluation.suites import Table
from xlmr.evaluation.tasks.classify import all_labels, labelled
from xlmr.evaluation.tasks.evaluator import Answered, Floats, Judged, answered, chunks
from xlmr.model.predictor import Predictor

# From here on a label is likelier than not: what ECE asks about, whatever the thresholds are.
_EVEN = 0.5


def make(
    predictor: Predictor,
    files: Sequence[Table[Any]],
    *,
    seed: int,
    unknown_labels: str = "stop",
) -> MultiLabel:
    """See the module.

    Raises:
        DataError: a row has a label that the model cannot give; names the first.
        TaskError: the model is no classifier.
    """
    return MultiLabel(predictor, all_labels(predictor, files, unknown_labels=unknown_labels))


class MultiLabel:
    """Values: right, gold and given labels of the row, counted."""

    metric = "micro_f1"
    keeps_outcomes = True

    def __init__(self, predictor: Predictor, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._predictor = predictor

    def answers(self, rows: Sequence[Any]) -> Iterator[Answered]:
        """All labels with their probabilities."""
        for chunk in chunks(rows):
            answers = self._predictor.classify([row.text for row in chunk])
            for row, answer in zip(chunk, answers, strict=True):
                yield answered(row, labelled(answer, self.labels), answer.accounting)

    def values(self, answered: Sequence[Answered]) -> Floats:
        """Hits, gold labels and given labels, [N, 3]."""
        gold_NC = self._gold(answered)
        given_NC = self._given(answered)
        counts = (gold_NC & given_NC, gold_NC, given_NC)
        return np.stack([count_NC.sum(axis=1) for count_NC in counts], axis=1).astype(float)

    def figures(self, values_NK: Floats, counts_SN: Floats) -> Floats:
        """Micro F1; 0 where there is no label on either side."""
        return f1_of_counts(values_NK, counts_SN)

    def more(self, judged: Sequence[Judged]) -> Mapping[str, float]:
        """Macro F1; ECE over all decisions; of each label that some rows have and some not, AUROC
        and average precision.
        """
        gold_NC, given_NC, scores_NC = (
            each(judged) for each in (self._gold, self._given, self._scores)
        )
        sure_M = np.maximum(scores_NC, 1.0 - scores_NC).ravel()
        found = {
            "macro_f1": multi_label_f1(gold_NC, given_NC)[1],
            "ece": ece(sure_M, (gold_NC == (scores_NC >= _EVEN)).ravel()),
        }
        ranked: dict[str, list[float]] = {"auroc": [], "average_precision": []}
        for label, gold_N, scores_N in zip(self.labels, gold_NC.T, scores_NC.T, strict=True):
            if gold_N.all() or not gold_N.any():
                continue
            for name, measure in (("auroc", auroc), ("average_precision", average_precision)):
                found[f"{name}:{label}"] = measure(gold_N, scores_N)
                ranked[name].append(found[f"{name}:{label}"])
        return found | {name: float(np.mean(each)) for name, each in ranked.items() if each}

    def _gold(self, rows: Sequence[Answered | Judged]) -> np.ndarray:
        return np.array([[name in row.row.labels for name in self.labels] for row in rows])

    def _given(self, rows: Sequence[Answered | Judged]) -> np.ndarray:
        return np.array([[name in row.outcome.chosen for name in self.labels] for row in rows])

    def _scores(self, rows: Sequence[Answered | Judged]) -> np.ndarray:
        return np.stack([row.outcome.probabilities_C for row in rows]).astype(np.float64)
