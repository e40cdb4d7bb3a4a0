"""A classifier's report, language by language: worst first, then what all of them say together."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import DataError
from xlmr.evaluation.metrics import accuracy, bootstrap_interval, macro_f1
from xlmr.evaluation.metrics.calibration import ece
from xlmr.evaluation.suites import DataFile, Row, by_language

if TYPE_CHECKING:
    from xlmr.types import Classification

# Rows predicted between two signs of life: a second's work or less on a small model.
_CHUNK_ROWS = 64


@dataclass(frozen=True, slots=True)
class LanguageScore:
    """One language's result.

    `low` and `high` bound the accuracy with 95 % coverage. `ece` is how far the scores are from
    being probabilities; with few rows it is large by chance alone.
    """

    language: str
    n: int
    accuracy: float
    low: float
    high: float
    macro_f1: float
    ece: float


@dataclass(frozen=True, slots=True)
class Report:
    """Every language, worst accuracy first, and the summary.

    Attributes:
        languages: falling need of attention: lowest accuracy first, ties by name.
        n: rows of all languages.
        macro_accuracy: mean over languages, each counting the same.
        macro_f1: mean over languages of their macro F1.
        macro_ece: mean over languages of their ECE.
        worst: the language with the lowest accuracy.
        worst_accuracy: its accuracy.
        english_accuracy: None where the data has no English.
        gap_to_english: English accuracy minus the mean of all other languages; None without both.
        seed: of the bootstrap.
    """

    languages: tuple[LanguageScore, ...]
    n: int
    macro_accuracy: float
    macro_f1: float
    macro_ece: float
    worst: str
    worst_accuracy: float
    english_accuracy: float | None
    gap_to_english: float | None
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Predicted:
    """A row and the label a model gave it, how sure it was (0 to 1), and the tokens that cost."""

    row: Row
    label: str
    score: float
    tokens: int

    @property
    def right(self) -> bool:
        """Whether the label is the gold one."""
        return self.label == self.row.label


if TYPE_CHECKING:
    from typing import Protocol

    class Classifier(Protocol):
        """What a report needs of a predictor."""

        def classify(self, texts: Sequence[str], *, top: int | None = ...) -> list[Classification]:
            """Labels in falling order of score for each text."""


def predict(classifier: Classifier, files: Sequence[DataFile]) -> Iterator[Predicted]:
    """Classifies every row, language by language; yields as it goes, so a caller can show it.

    Raises:
        DataError: a row has a label that the model cannot give; names the first.
        TaskError: the model is no classifier.
    """
    _check_labels(classifier, files)
    for rows in by_language(files).values():
        for start in range(0, len(rows), _CHUNK_ROWS):
            chunk = rows[start : start + _CHUNK_ROWS]
            answers = classifier.classify([row.text for row in chunk], top=1)
            for row, answer in zip(chunk, answers, strict=True):
                # Sums of float32 may pass 1 by a hair.
                score = min(max(answer.score, 0.0), 1.0)
                tokens = answer.accounting.tokens
                yield Predicted(row=row, label=answer.label, score=score, tokens=tokens)


def build_report(predictions: Sequence[Predicted], *, seed: int = 0) -> Report:
    """Scores predictions.

    Raises:
        DataError: no predictions.
    """
    if not predictions:
        raise DataError("nothing to report: no rows were predicted")
    groups: dict[str, list[Predicted]] = {}
    for prediction in predictions:
        groups.setdefault(prediction.row.language, []).append(prediction)
    scores = sorted(
        (_score(language, group, seed) for language, group in groups.items()),
        key=lambda score: (score.accuracy, score.language),
    )
    accuracies: Mapping[str, float] = {score.language: score.accuracy for score in scores}
    english = accuracies.get("en")
    others = [value for language, value in accuracies.items() if language != "en"]
    gap = english - float(np.mean(others)) if english is not None and others else None
    return Report(
        languages=tuple(scores),
        n=len(predictions),
        macro_accuracy=float(np.mean(list(accuracies.values()))),
        macro_f1=float(np.mean([score.macro_f1 for score in scores])),
        macro_ece=float(np.mean([score.ece for score in scores])),
        worst=scores[0].language,
        worst_accuracy=scores[0].accuracy,
        english_accuracy=english,
        gap_to_english=gap,
        seed=seed,
    )


def right_by_language(predictions: Sequence[Predicted]) -> dict[str, NDArray[np.float64]]:
    """1 where a prediction is right and 0 elsewhere, by language: what a comparison reads."""
    right: dict[str, list[bool]] = {}
    for prediction in predictions:
        right.setdefault(prediction.row.language, []).append(prediction.right)
    return {language: np.array(values, np.float64) for language, values in right.items()}


def _score(language: str, predictions: Sequence[Predicted], seed: int) -> LanguageScore:
    names = sorted({p.row.label for p in predictions} | {p.label for p in predictions})
    index = {name: i for i, name in enumerate(names)}
    gold_N = np.array([index[p.row.label] for p in predictions])
    predicted_N = np.array([index[p.label] for p in predictions])
    # Seeded by language as well: an interval must not move when another language joins the data.
    generator = np.random.default_rng([seed, zlib.crc32(language.encode())])
    low, high = bootstrap_interval((gold_N == predicted_N).astype(float), generator=generator)
    return LanguageScore(
        language=language,
        n=len(predictions),
        accuracy=accuracy(gold_N, predicted_N),
        low=low,
        high=high,
        macro_f1=macro_f1(gold_N, predicted_N),
        ece=ece(np.array([p.score for p in predictions]), gold_N == predicted_N),
    )


def _check_labels(classifier: Classifier, files: Sequence[DataFile]) -> None:
    # Any text shows the labels: an answer that is not cut short names them all.
    known = {score.label for score in classifier.classify([files[0].rows[0].text])[0].labels}
    for file in files:
        for row in file.rows:
            if row.label not in known:
                raise DataError(
                    f"{file.path}:{row.line}: label: not among the model's {len(known)} labels",
                    hint=f"the model knows {', '.join(sorted(known)[:20])}",
                )
