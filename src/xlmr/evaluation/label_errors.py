"""Rows whose label is likely wrong, as cleanlab finds them: confident learning.

The model must not have learned from the rows: what it has seen it believes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xlmr.errors import DataError, MissingExtraError
from xlmr.evaluation.suites import Table, by_language
from xlmr.evaluation.tasks import Evaluator, Judged, Labelled


@dataclass(frozen=True, slots=True)
class LabelError:
    """A row that somebody should look at.

    Attributes:
        file: its name, without folders.
        line: where it stands in the file.
        language: of the row.
        given: the label it has.
        suggested: the label the model finds likeliest.
        score: how likely the given label is, 0 to 1; the lower, the likelier it is wrong.
    """

    file: str
    line: int
    language: str
    given: str
    suggested: str
    score: float


def find_label_errors(
    evaluator: Evaluator, judged: Sequence[Judged], files: Sequence[Table[Any]]
) -> list[LabelError]:
    """Rows with one label each that is likely wrong, the likeliest first.

    Args:
        evaluator: that judged the rows.
        judged: every row of `files`, as an evaluation gives them.
        files: where the rows stand.

    Raises:
        MissingExtraError: cleanlab is not installed.
        DataError: rows that do not have one label each.
    """
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ModuleNotFoundError:
        raise MissingExtraError("cleanlab", extra="labels") from None
    if not all(isinstance(row.outcome, Labelled) and hasattr(row.row, "label") for row in judged):
        raise DataError(
            "label errors are found in rows that have one label each",
            hint="leave --label-errors out for this task",
        )
    labels: tuple[str, ...] = evaluator.labels  # type: ignore[attr-defined]
    place = {label: i for i, label in enumerate(labels)}
    given_N = np.array([place[row.row.label] for row in judged])
    likely_NC = np.stack([row.outcome.probabilities_C for row in judged]).astype(np.float64)
    likely_NC /= likely_NC.sum(axis=1, keepdims=True)
    with warnings.catch_warnings():
        # Labels that no row, or one row, has: nothing can be said about those, and nothing is.
        warnings.simplefilter("ignore", UserWarning)
        wrong_N = find_label_issues(given_N, likely_NC, n_jobs=1)
    score_N = get_label_quality_scores(given_N, likely_NC)
    found = [
        LabelError(
            file=path.name,
            line=row.row.line,
            language=row.row.language,
            given=row.row.label,
            suggested=row.outcome.label,
            score=float(score),
        )
        for row, path, wrong, score in zip(judged, _paths(files), wrong_N, score_N, strict=True)
        if wrong
    ]
    return sorted(found, key=lambda error: (error.score, error.file, error.line))


def write_label_errors(path: Path, found: Sequence[LabelError]) -> None:
    """One JSON object a line, in order; never a text."""
    lines = (json.dumps(asdict(error), ensure_ascii=False) + "\n" for error in found)
    path.write_text("".join(lines), encoding="utf-8")


def _paths(files: Sequence[Table[Any]]) -> Iterator[Path]:
    """The file of each row, in the order of `by_language`."""
    for language in by_language(files):
        for file in files:
            yield from (file.path for row in file.rows if row.language == language)
