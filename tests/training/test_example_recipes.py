"""The recipes that ship as examples are recipes, and each task has one."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from xlmr.training.objectives import schema_of
from xlmr.training.recipe import Task, make_recipe, read_recipe

FOLDER = Path(__file__).parents[2] / "examples" / "recipes"
RECIPES = sorted(FOLDER.glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_it_is_complete(path: Path) -> None:
    recipe = make_recipe(read_recipe(path), origin=path.name)
    assert recipe.name == path.stem
    assert schema_of(recipe)


def test_every_task_but_plain_numbers_has_one() -> None:
    tasks = {make_recipe(read_recipe(path)).task for path in RECIPES}
    assert tasks == set(get_args(Task)) - {"score"}
