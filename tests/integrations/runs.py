"""A small run for the suites beside this file: a tiny model without dropout, and a few rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tiny import tiny_model

from xlmr.training.recipe import Recipe, make_recipe, set_values

TRAIN = [
    ("where is my parcel", "delivery", "en"),
    ("parcel not arrived", "delivery", "en"),
    ("где посылка", "delivery", "ru"),
    ("refund the money", "refund", "en"),
    ("my money refund", "refund", "en"),
    ("a refund", "refund", "en"),
    ("where", "delivery", "en"),
]
DEV = [
    ("the parcel", "delivery", "en"),
    ("the money", "refund", "en"),
    ("посылка", "delivery", "ru"),
]


def small_recipe(place: Path, *said: str) -> Recipe:
    """Writes model and rows into a directory, and gives the recipe of a run over them.

    Its epochs have an odd number of batches, so two processes never share them evenly.
    """
    for name, rows in (("train", TRAIN), ("dev", DEV)):
        lines = [json.dumps({"text": t, "label": la, "language": lg}) for t, la, lg in rows]
        (place / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    values: dict[str, Any] = {
        "task": "classify",
        "name": "small",
        "encoder": str(tiny_model(place, "embed", **still)),
        "seed": 5,
        "data": {
            "train": str(place / "train.jsonl"),
            "dev": str(place / "dev.jsonl"),
            "near_duplicates": "keep",
        },
        "run": {"epochs": 4, "batch_tokens": 12},
        "optimizer": {"learning_rate": 1e-2},
    }
    recipe = make_recipe(set_values(values, said))
    (place / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    return recipe


def noted(out: Path) -> list[dict[str, Any]]:
    """The steps that a run left in its directory."""
    lines = (out.with_name(f"{out.name}.run") / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
