"""Labelled rows on which a model is scored before and after it is made smaller, by language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xlmr.errors import DataError, TaskError
from xlmr.evaluation.suites import Table, read_split
from xlmr.evaluation.tasks import (
    TASKS,
    Evaluation,
    UnknownLabels,
    make_evaluator,
    values_by_language,
)
from xlmr.model.bundle import Bundle
from xlmr.model.predictor import Predictor
from xlmr.text.codes import short_code

# What a bundle can be asked → the tasks whose rows score it, by preference, and the figure.
_KINDS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "classify": (("classify", "infer", "paraphrase"), "accuracy"),
    "tag": (("tag",), "span F1"),
    "answer": (("answer",), "answer F1"),
    "embed": (("bitext",), "bitext accuracy"),
}


class Trial:
    """Labelled rows, and what they are scored by.

    Attributes:
        metric: name of the figure; larger is better.
    """

    def __init__(self, kind: str, task: str, files: Sequence[Table[Any]]) -> None:
        self._task, self._files = task, files
        self.metric = _KINDS[kind][1]

    def score(self, predictor: Predictor) -> dict[str, float]:
        """A model's figure in each language. A label that it cannot give is one it gets wrong."""
        unknown: UnknownLabels = "wrong" if self.metric == "accuracy" else "stop"
        evaluator = make_evaluator(self._task, predictor, self._files, unknown_labels=unknown)
        values = values_by_language(Evaluation(evaluator, self._files).run())
        return {language: evaluator.figure(values_NK) for language, values_NK in values.items()}


def read_trial(place: Path, split: str, languages: Sequence[str], bundle: Bundle) -> Trial:
    """Reads labelled rows for whatever a model does.

    Args:
        place: a file or folder.
        split: which files of a folder.
        languages: codes; all where empty.
        bundle: the model.

    Raises:
        TaskError: a model that has no figure here: it fills masks, or ranks.
        DataError: no rows, or rows of another task.
    """
    kind = next(
        (name for name in _KINDS if name in bundle.tasks and "rerank" not in bundle.tasks), ""
    )
    if not kind or "fill" in bundle.tasks:
        raise TaskError(
            "there are no labelled rows that score this model",
            hint="leave --eval out: how much its answers stay the same is measured without",
        )
    keys = _keys(place, split, languages)
    faults: list[DataError] = []
    for task in _KINDS[kind][0]:
        try:
            files = read_split(place, split, TASKS[task].schema, languages=keys)
            return Trial(kind, task, files)
        except DataError as fault:
            faults.append(fault)
    raise faults[0]


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
