"""The port of a task that is evaluated: rows become answers, answers values, values a figure.

Values are what a bootstrap draws from, a few numbers a row: right or wrong, counts of spans, a pair
of gold and predicted score. The figure is computed anew from those of each draw, of many at once.

Shapes: N rows, K values a row, S draws of rows, C labels, D vector width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from xlmr.evaluation.suites import Table, by_language
from xlmr.model.predictor import Predictor
from xlmr.types import Accounting

Floats = NDArray[np.float64]
_T = TypeVar("_T")

# Rows answered between two signs of life: a second's work or less on a small model.
_CHUNK_ROWS = 64


@dataclass(frozen=True, slots=True)
class Answered:
    """A row and what a model made of it.

    Attributes:
        row: the row.
        outcome: the task's own; `Labelled` where there are labels for a text.
        tokens: what it cost.
        truncated: whether some of the row was not read.
    """

    row: Any
    outcome: Any
    tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """An answered row with its values; `outcome` is None where nothing reads it any more."""

    row: Any
    outcome: Any
    tokens: int
    truncated: bool
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """One label and how sure it is, 0 to 1; `probabilities_C` in the evaluator's order of labels.

    Also the outcome of multi-label tasks: `label` is then the likeliest one, and `chosen` are those
    that reach the model's thresholds.
    """

    label: str
    score: float
    probabilities_C: NDArray[np.float32]
    chosen: tuple[str, ...] = ()


class Evaluator(Protocol):
    """A task as the report sees it, made for one model and one set of rows.

    `metric` names the figure, larger is better. `keeps_outcomes` says whether `more`, or the page,
    reads outcomes once values are made of them; vectors are let go. What `more` gives is named
    alike in every language; figures of one label have it behind a colon, `f1:PER`.
    """

    metric: str
    keeps_outcomes: bool

    def answers(self, rows: Sequence[Any]) -> Iterator[Answered]:
        """Answers the rows of one language, in order; yields as it goes."""

    def values(self, answered: Sequence[Answered]) -> Floats:
        """The values of all rows of one language, [N, K]."""

    def figures(self, values_NK: Floats, counts_SN: Floats) -> Floats:
        """The metric of draws of rows, [S]: how often each row is in each of them, [S, N]."""

    def more(self, judged: Sequence[Judged]) -> Mapping[str, float]:
        """Other figures of any rows of one language; without those that cannot be said."""


class Evaluation:
    """Every row of a set of files, answered and judged, language by language.

    Iterating does the work and yields each answer, so that a caller can show how far it is;
    `judged` grows language by language.
    """

    def __init__(self, evaluator: Evaluator, files: Sequence[Table[Any]]) -> None:
        self.evaluator = evaluator
        self.judged: list[Judged] = []
        self._files = files

    def __iter__(self) -> Iterator[Answered]:
        for rows in by_language(self._files).values():
            answered = []
            for answer in self.evaluator.answers(rows):
                answered.append(answer)
                yield answer
            self.judged += _judge(self.evaluator, answered)

    def run(self) -> list[Judged]:
        """Does all of it at once."""
        for _ in self:
            pass
        return self.judged


def values_by_language(judged: Sequence[Judged]) -> dict[str, Floats]:
    """The values of each language's rows, [N, K]: what a comparison reads."""
    values: dict[str, list[tuple[float, ...]]] = {}
    for row in judged:
        values.setdefault(row.row.language, []).append(row.values)
    return {language: np.array(rows, np.float64) for language, rows in values.items()}


def chunks(rows: Sequence[_T], size: int = _CHUNK_ROWS) -> Iterator[Sequence[_T]]:
    """The rows in pieces, in order."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def answered(row: Any, outcome: Any, *accountings: Accounting) -> Answered:
    """A row with what reading it cost, over all the texts that were read for it."""
    return Answered(
        row=row,
        outcome=outcome,
        tokens=sum(accounting.tokens for accounting in accountings),
        truncated=any(accounting.truncated for accounting in accountings),
    )


def prompt_for(predictor: Predictor, *names: str) -> str | None:
    """The first of the prompts that the model has; its default one where it has none of them."""
    return next((name for name in names if name in predictor.bundle.prompts), None)


def unit(vector_D: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector at length 1, or as it is where it has none."""
    length = float(np.linalg.norm(vector_D))
    scaled_D: NDArray[np.float32] = vector_D / length if length > 0.0 else vector_D
    return scaled_D


def _judge(evaluator: Evaluator, answered: Sequence[Answered]) -> Iterator[Judged]:
    for answer, values in zip(answered, evaluator.values(answered).tolist(), strict=True):
        kept = answer.outcome if evaluator.keeps_outcomes else None
        yield Judged(answer.row, kept, answer.tokens, answer.truncated, tuple(values))
