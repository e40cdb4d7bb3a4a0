"""Classification: one label for a text or for a pair of texts. Figure: accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xlmr.errors import DataError
from xlmr.evaluation.metrics import macro_f1
from xlmr.evaluation.metrics.calibration import brier, ece, ece_beyond_chance, ece_by_chance
from xlmr.evaluation.metrics.classification import auroc
from xlmr.evaluation.metrics.draws import means
from xlmr.evaluation.suites import Table
from xlmr.evaluation.tasks.evaluator import (
    Answered,
    Floats,
    Judged,
    Labelled,
    answered,
    chunks,
)
from xlmr.model.predictor import Predictor
from xlmr.types import Classification


def make(
    predictor: Predictor,
    files: Sequence[Table[Any]],
    *,
    seed: int,
    unknown_labels: str = "stop",
) -> Classify:
    """For `infer` and `paraphrase` as well.

    Raises:
        DataError: a row has a label that the model cannot give; names the first.
        TaskError: the model is no classifier.
    """
    return Classify(predictor, all_labels(predictor, files, unknown_labels=unknown_labels))


class Classify:
    """Values: right or wrong as 1 and 0."""

    metric = "accuracy"
    keeps_outcomes = True

    def __init__(self, predictor: Predictor, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._predictor = predictor

    def answers(self, rows: Sequence[Any]) -> Iterator[Answered]:
        """All labels with their probabilities."""
        for chunk in chunks(rows):
            items = [row.input if len(row.input) > 1 else row.input[0] for row in chunk]
            for row, answer in zip(chunk, self._predictor.classify(items), strict=True):
                yield answered(row, labelled(answer, self.labels), answer.accounting)

    def values(self, answered: Sequence[Answered]) -> Floats:
        """Whether each label is the gold one, [N, 1]."""
        return np.array([[answer.outcome.label == answer.row.label] for answer in answered], float)

    def figures(self, values_NK: Floats, counts_SN: Floats) -> Floats:
        """The share that is right."""
        return means(values_NK, counts_SN)

    def more(self, judged: Sequence[Judged]) -> Mapping[str, float]:
        """Macro F1, ECE and how much of it is chance, Brier score; of two labels also AUROC."""
        place = {label: i for i, label in enumerate(self.labels)}
        gold_N = np.array([place[row.row.label] for row in judged])
        given_N = np.array([place[row.outcome.label] for row in judged])
        sure_N = np.array([row.outcome.score for row in judged])
        probabilities_NC = np.stack([row.outcome.probabilities_C for row in judged])
        found = {
            "macro_f1": macro_f1(gold_N, given_N),
            "ece": ece(sure_N, gold_N == given_N),
            "ece_by_chance": ece_by_chance(sure_N),
            "ece_beyond_chance": ece_beyond_chance(sure_N, gold_N == given_N)[0],
            "brier": brier(probabilities_NC.astype(np.float64), gold_N),
        }
        if len(self.labels) == 2 and 0 < gold_N.sum() < len(gold_N):
            found["auroc"] = auroc(gold_N == 1, probabilities_NC[:, 1].astype(np.float64))
        return found


def labelled(answer: Classification, labels: Sequence[str]) -> Labelled:
    """An answer as an outcome; a label that the model cannot give has probability 0."""
    scores = {each.label: each.score for each in answer.labels}
    # Sums of float32 may pass 1 by a hair.
    score = min(max(answer.score, 0.0), 1.0)
    probabilities_C = np.array([scores.get(name, 0.0) for name in labels], np.float32)
    return Labelled(answer.label, score, probabilities_C, answer.chosen or ())


def model_labels(predictor: Predictor, files: Sequence[Table[Any]]) -> tuple[str, ...]:
    """Every label the model can give, in alphabetical order.

    Raises:
        TaskError: the model is no classifier.
    """
    # An answer that is not cut short names them all, whatever the text.
    first = files[0].rows[0].input
    [answer] = predictor.classify([first if len(first) > 1 else first[0]])
    return tuple(sorted(each.label for each in answer.labels))


def all_labels(
    predictor: Predictor, files: Sequence[Table[Any]], *, unknown_labels: str
) -> tuple[str, ...]:
    """The model's labels in alphabetical order, and then those of the rows that it cannot give.

    Raises:
        DataError: there are such rows, and they shall stop; names the first.
        TaskError: the model is no classifier.
    """
    labels = model_labels(predictor, files)
    known, unknown = frozenset(labels), set[str]()
    for file in files:
        for row in file.rows:
            own = getattr(row, "labels", None)
            strange = set([row.label] if own is None else own) - known
            unknown |= strange
            if strange and unknown_labels == "stop":
                raise DataError(
                    f"{file.path}:{row.line}: label: not among the model's {len(known)} labels",
                    hint=f"the model knows {', '.join(sorted(known)[:20])}; "
                    "--unknown-labels wrong counts such rows as wrong",
                )
    return (*labels, *sorted(unknown))
