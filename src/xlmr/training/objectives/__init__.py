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
from xlmr.training.sentence_vectors import Told


@dataclass(frozen=True, slots=True)
class _Kind:
    """Rows a task can learn from, its own first, and the module whose `make` learns it.

    `embeds_first`: encoding the rows takes vectors of them all, and says how far it is.
    """

    schemas: tuple[Schema[Any], ...]
    module: str
    embeds_first: bool = False


_KINDS: Mapping[str, _Kind] = {
    "classify": _Kind((CLASSIFY,), "sequence"),
    "multi-label": _Kind((MULTI_LABEL,), "sequence"),
    "score": _Kind((SCORE, SIMILARITY), "sequence"),
    "infer": _Kind((INFER, PARAPHRASE), "sequence"),
    "tag": _Kind((TAG,), "tag"),
    "answer": _Kind((ANSWER,), "answer"),
    "embed": _Kind((RANK, BITEXT, SIMILARITY), "embed", embeds_first=True),
    "rerank": _Kind((RANK,), "rerank", embeds_first=True),
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


def make_objective(
    bundle: Bundle, recipe: Recipe, examples: Examples, *, told: Told | None = None
) -> Objective:
    """The task of a recipe, for an encoder and its data.

    Args:
        bundle: the encoder.
        recipe: names the task.
        examples: the data.
        told: hears how far it is where encoding rows takes their vectors first.

    Raises:
        DataError: the rows cannot be learned from.
        MissingExtraError: torch or transformers is not installed.
    """
    kind = _KINDS[recipe.task]
    module = importlib.import_module(f"{__name__}.{kind.module}")
    more = {"told": told} if kind.embeds_first else {}
    objective: Objective = module.make(bundle, recipe, examples, **more)
    return objective
