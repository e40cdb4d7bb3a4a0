"""What people say of an answer as a row to learn from, by task: out of a text and a label. Pure.

    classify             the label
    multi-label          all labels that hold, as JSON: ["delivery", "refund"]
    score                a number
    infer, paraphrase    the label; the text is the pair, parted by its only line break
    similarity           a number; likewise
    tag                  an IOB2 tag for each word of the kept text, blanks between

A label or a text that does not say that gives no row. Words that were redacted away leave another
number of words than tags, so tags never slip to a neighbour.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from xlmr.errors import SettingsError
from xlmr.training.objectives import schema_of
from xlmr.training.recipe import Recipe

Values = dict[str, Any]
_IOB2 = re.compile(r"O|[BI]-\S+")
_WHY_NOT = {
    "answer": "an answer is a place in a context, and feedback has no places",
    "embed": "which texts belong together is said of two, and feedback is on one",
    "rerank": "which document is better is said of several, and feedback is on one",
    "fill": "it learns from plain texts, and needs no labels",
}


@dataclass(frozen=True, slots=True)
class Said:
    """How rows of a schema come of what people said.

    Attributes:
        read: a text and a label as columns of a row; None where they do not say one.
        write: the same columns of a row that was read from a file.
        expected: of texts and labels, in words.
    """

    read: Callable[[str, str], Values | None]
    write: Callable[[Any], Values]
    expected: str


def said_of(recipe: Recipe) -> Said:
    """How later labels become rows of a recipe's data.

    Raises:
        SettingsError: labels of answers cannot say what this recipe learns.
    """
    found = _KINDS.get(schema_of(recipe).name)
    if found is None:
        why = _WHY_NOT.get(recipe.task, "feedback says no such rows")
        raise SettingsError(
            f"a recipe that learns {recipe.task} cannot learn from feedback: {why}",
            hint="label rows of your own; then `xlmr train`, `gate`, `registry push` and `rollout`",
        )
    return found


def labels_in(row: Mapping[str, Any]) -> set[str]:
    """The labels that a row's columns name."""
    if "tags" in row:
        return {tag[2:] for tag in row["tags"] if tag != "O"}
    return set(row["labels"]) if "labels" in row else {row["label"]} if "label" in row else set()


def _classify(text: str, label: str) -> Values | None:
    return {"text": text, "label": label} if label.strip() else None


def _multi_label(text: str, label: str) -> Values | None:
    try:
        labels = json.loads(label)
    except (json.JSONDecodeError, RecursionError):
        return None
    named = isinstance(labels, list) and all(isinstance(e, str) and e.strip() for e in labels)
    return {"text": text, "labels": sorted({e.strip() for e in labels})} if named else None


def _score(text: str, label: str) -> Values | None:
    score = _number(label)
    return None if score is None else {"text": text, "score": score}


def _tag(text: str, label: str) -> Values | None:
    words, tags = text.split(), label.split()
    fits = len(words) == len(tags) and all(map(_IOB2.fullmatch, tags))
    return {"text": text, "tokens": words, "tags": tags} if fits else None


def _number(label: str) -> float | None:
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _pair(first: str, second: str, *, scored: bool = False) -> Said:
    """Of two texts by the names of their columns, with a label or a number."""

    def read(text: str, label: str) -> Values | None:
        parts = text.split("\n")
        answer = _number(label) if scored else (label.strip() or None)
        if len(parts) != 2 or not all(part.strip() for part in parts) or answer is None:
            return None
        return {first: parts[0], second: parts[1], "score" if scored else "label": answer}

    def write(row: Any) -> Values:
        answer = {"score": row.score} if scored else {"label": row.label}
        return {first: row.first, second: row.second, **answer}

    label = "a number" if scored else "one label"
    return Said(read, write, f"{label}, on two texts with a line break between and none within")


def _text_row(read: Callable[[str, str], Values | None], column: str, expected: str) -> Said:
    return Said(read, lambda row: {"text": row.text, column: getattr(row, column)}, expected)


_KINDS = {
    "classify": _text_row(_classify, "label", "one label"),
    "multi-label": _text_row(_multi_label, "labels", 'labels as JSON, ["a", "b"]'),
    "score": _text_row(_score, "score", "a number"),
    "infer": _pair("premise", "hypothesis"),
    "paraphrase": _pair("a", "b"),
    "similarity": _pair("a", "b", scored=True),
    "tag": Said(
        _tag,
        lambda row: {"text": row.text, "tokens": row.tokens, "tags": row.tags},
        "an IOB2 tag for each word of the kept text",
    ),
}
