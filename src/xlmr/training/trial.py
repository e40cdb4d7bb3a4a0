"""Labelled rows on which a model is scored before and after it is made smaller, by language."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xlmr.errors import DataError
from xlmr.evaluation.metrics.draws import whole
from xlmr.evaluation.suites import Table, columns_of, read_split
from xlmr.evaluation.tasks import (
    TASKS,
    Evaluation,
    find_task,
    make_evaluator,
    values_by_language,
)
from xlmr.model.bundle import Bundle
from xlmr.model.predictor import Predictor
from xlmr.text.codes import short_code


class Trial:
    """Labelled rows of a task.

    Attributes:
        task: one of `evaluation.tasks.TASKS`.
    """

    def __init__(self, task: str, files: Sequence[Table[Any]]) -> None:
        self.task, self._files = task, files

    def score(self, predictor: Predictor) -> tuple[str, dict[str, float]]:
        """The name of the task's figure, larger being better, and a model's in each language.

        A label that the model cannot give is one it gets wrong.
        """
        evaluator = make_evaluator(
            self.task,
            predictor,
            self._files,
            unknown_labels="wrong" if TASKS[self.task].labelled else "stop",
        )
        values = values_by_language(Evaluation(evaluator, self._files).run())
        return evaluator.metric, {
            language: whole(evaluator.figures, values_NK) for language, values_NK in values.items()
        }


def read_trial(place: Path, split: str, languages: Sequence[str], bundle: Bundle) -> Trial:
    """Reads labelled rows of the one task that both they and a model fit, as `evaluate` does.

    Args:
        place: a file or folder.
        split: which files of a folder.
        languages: codes; all where empty.
        bundle: the model.

    Raises:
        DataError: no rows, rows at fault, or rows of no task of the model or of several.
    """
    keys = _keys(place, split, languages)
    columns = columns_of(place, split, languages=keys)
    try:
        task = find_task(bundle, columns, {})
    except DataError as fault:
        raise DataError(
            f"{place}: {fault.message}",
            hint="rename the columns; or score each model by `xlmr evaluate` with --column",
        ) from None
    return Trial(task, read_split(place, split, TASKS[task].schema, languages=keys))


def _keys(place: Path, split: str, languages: Sequence[str]) -> list[str]:
    """What a folder calls the languages: `deu` for `de`."""
    if not place.is_dir() or not languages:
        return list(languages)
    wanted = {short_code(language) for language in languages}
    keys = sorted({path.name.split(".")[0] for path in place.glob(f"*.{split}.*")})
    found = [key for key in keys if short_code(key) in wanted]
    if not found:
        raise DataError(
            f"{place}: no {split} rows in {', '.join(languages)}",
            hint=f"there is {', '.join(keys) or 'nothing'}; --eval-split names another split",
        )
    return found
