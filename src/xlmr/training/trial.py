"""Labelled rows on which a model is scored before and after it is made smaller, by language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xlmr.errors import DataError, TaskError
from xlmr.evaluation.metrics.answers import answer_f1
from xlmr.evaluation.metrics.ranking import bitext_hits
from xlmr.evaluation.metrics.spans import Span, f1_of_counts, span_counts
from xlmr.evaluation.suites import (
    ANSWER,
    BITEXT,
    CLASSIFY,
    INFER,
    PARAPHRASE,
    TAG,
    Schema,
    by_language,
    read_split,
)
from xlmr.model.bundle import Bundle
from xlmr.model.predictor import Predictor
from xlmr.text.codes import short_code

# What a bundle can be asked → rows that score it, in order of preference, and the figure.
_KINDS: Mapping[str, tuple[tuple[Schema[Any], ...], str]] = {
    "classify": ((CLASSIFY, INFER, PARAPHRASE), "accuracy"),
    "tag": ((TAG,), "span F1"),
    "answer": ((ANSWER,), "answer F1"),
    "embed": ((BITEXT,), "bitext accuracy"),
}


class Trial:
    """Rows by language, and what they are scored by.

    Attributes:
        metric: name of the figure; larger is better.
    """

    def __init__(self, kind: str, rows: Mapping[str, Sequence[Any]]) -> None:
        self._kind, self._rows = kind, rows
        self.metric = _KINDS[kind][1]

    def score(self, predictor: Predictor) -> dict[str, float]:
        """A model's figure in each language."""
        ask = {"classify": _classify, "tag": _tag, "answer": _answer, "embed": _embed}[self._kind]
        return {language: ask(predictor, rows) for language, rows in self._rows.items()}


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
    for schema in _KINDS[kind][0]:
        try:
            return Trial(kind, by_language(read_split(place, split, schema, languages=keys)))
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


def _classify(predictor: Predictor, rows: Sequence[Any]) -> float:
    items = [row.input[0] if len(row.input) == 1 else row.input for row in rows]
    said = predictor.classify(items, top=1)
    return float(np.mean([s.label == row.label for s, row in zip(said, rows, strict=True)]))


def _tag(predictor: Predictor, rows: Sequence[Any]) -> float:
    said = predictor.tag([row.text for row in rows])
    gold, found = (
        [frozenset(Span(e.start, e.end, e.label) for e in item.entities) for item in side]
        for side in (rows, said)
    )
    return f1_of_counts(span_counts(gold, found))


def _answer(predictor: Predictor, rows: Sequence[Any]) -> float:
    said = predictor.answer([(row.question, row.context) for row in rows])
    return float(
        np.mean(
            [
                answer_f1(s.text, [a.text for a in row.answers], row.language)
                for s, row in zip(said, rows, strict=True)
            ]
        )
    )


def _embed(predictor: Predictor, rows: Sequence[Any]) -> float:
    """Nearest neighbours that are the translation, mean of both directions."""
    prompt = "query" if "query" in predictor.bundle.prompts else None
    english_ND, text_ND = (
        np.stack(
            [e.vector for e in predictor.embed([getattr(row, side) for row in rows], prompt=prompt)]
        )
        for side in ("english", "text")
    )
    there_N, back_N = bitext_hits(english_ND, text_ND)
    return float((there_N.mean() + back_N.mean()) / 2)
