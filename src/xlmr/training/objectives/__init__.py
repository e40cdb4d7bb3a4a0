"""The tasks that can be learned, one file each, behind the port of `xlmr.training.objective`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xlmr.errors import SettingsError
from xlmr.evaluation.suites import (
    ANSWER,
    BITEXT,
    CLASSIFY,
    INFER,
    MULTI_LABEL,
    PARAPHRASE,
    PLAIN_TEXT,
    RANK,
    SCORE,
    SIMILARITY,
    TAG,
    Schema,
)
from xlmr.model.bundle import Bundle
from xlmr.training.data import Examples
from xlmr.training.objective import Objective
from xlmr.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class _Kind:
    """Rows a task can learn from, its own first, and the module whose `make` learns it."""

    schemas: tuple[Schema[Any], ...]
    module: str


_KINDS: Mapping[str, _Kind] = {
    "classify": _Kind((CLASSIFY,), "sequence"),
    "multi-label": _Kind((MULTI_LABEL,), "sequence"),
    "score": _Kind((SCORE, SIMILARITY), "sequence"),
    "infer": _Kind((INFER, PARAPHRASE), "sequence"),
    "tag": _Kind((TAG,), "tag"),
    "answer": _Kind((ANSWER,), "answer"),
    "embed": _Kind((RANK, BITEXT, SIMILARITY), "embed"),
    "rerank": _Kind((RANK,), "rerank"),
    "fill": _Kind((PLAIN_TEXT,), "fill"),
}


def schema_of(recipe: Recipe) -> Schema[Any]:
    """What the rows of a recipe's files are.

    Raises:
        SettingsError: the task cannot learn from rows of that name.
    """
    schemas = {schema.name: schema for schema in _KINDS[recipe.task].schemas}
    name = recipe.data.rows or next(iter(schemas))
    if name not in schemas:
        raise SettingsError(
            f"data.rows: {recipe.task} cannot learn from {name}",
            hint=f"it learns from {', '.join(schemas)}",
        )
    return schemas[name]


def make_objective(bundle: Bundle, recipe: Recipe, examples: Examples) -> Objective:
    """The task of a recipe, for an encoder and its data.

    Raises:
        DataError: the rows cannot be learned from.
        MissingExtraError: torch or transformers is not installed.
    """
    module = importlib.import_module(f"{__name__}.{_KINDS[recipe.task].module}")
    objective: Objective = module.make(bundle, recipe, examples)
    return objective
