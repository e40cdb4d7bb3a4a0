"""Recipes: complete when written, the same when read again, refused with the key that is wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.errors import SettingsError
from xlmr.training.recipe import Recipe, make_recipe, read_recipe, set_values

LEAST: dict[str, Any] = {"task": "tag", "encoder": "models/starter", "data": {"train": "data"}}

recipes = st.builds(
    lambda said: make_recipe(LEAST | said),
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])),
            "seed": st.integers(0, 2**63 - 1),
            "method": st.sampled_from(["full", "lora"]),
            "run": st.fixed_dictionaries(
                {}, optional={"epochs": st.integers(1, 99), "checkpoint_s": st.floats(1.0, 1e6)}
            ),
            "optimizer": st.fixed_dictionaries(
                {}, optional={"learning_rate": st.floats(1e-9, 1.0), "warmup": st.floats(0, 1)}
            ),
        },
    ),
)


@given(recipes)
def test_what_is_written_is_read_again_as_the_same(recipe: Recipe) -> None:
    again = make_recipe(tomllib.loads(recipe.to_toml()))
    assert again == recipe
    assert again.digest == recipe.digest


def test_everything_is_said_in_what_is_written() -> None:
    written = tomllib.loads(make_recipe(LEAST).to_toml())
    assert written["run"]["batch_tokens"] == 1024
    assert written["data"]["near_duplicates"] == "drop"


def test_other_values_have_another_digest() -> None:
    assert make_recipe(LEAST).digest != make_recipe(LEAST | {"seed": 1}).digest


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        ({"epochs": 3}, "unknown field `epochs`", "there are task, encoder"),
        ({"run": {"epoch": 3}}, "unknown field `epoch` at `run`", "epochs, batch_tokens"),
        ({"run": {"epochs": 0}}, "Expected `int` >= 1 at `run.epochs`", ""),
        ({"run": {"epochs": "3"}}, "Expected `int`, got `str` at `run.epochs`", ""),
        ({"task": "tagging"}, "Invalid enum value 'tagging' at `task`", ""),
        ({"optimizer": {"learning_rate": 0.0}}, "> 0.0 at `optimizer.learning_rate`", ""),
        ({"method": "head"}, "method head is for classify, not for tag", "full"),
        ({"data": {}}, "missing required field `train` at `data`", ""),
    ],
)
def test_a_fault_names_its_key(said: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make_recipe(LEAST | said, origin="ner.toml")
    assert str(caught.value).startswith("ner.toml: ")
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_values_are_set_over_a_file_and_the_file_stays_as_it_was() -> None:
    over = set_values(
        LEAST, ["run.epochs=3", 'data.languages=["en", "de"]', "name=two words", "seed = 7"]
    )
    recipe = make_recipe(over)
    assert (recipe.run.epochs, recipe.data.languages) == (3, ("en", "de"))
    assert (recipe.name, recipe.seed) == ("two words", 7)
    assert "languages" not in LEAST["data"]


@pytest.mark.parametrize("pair", ["run.epochs", "=3", "task.x=3"])
def test_a_pair_that_cannot_be_set_is_refused(pair: str) -> None:
    with pytest.raises(SettingsError, match="--set"):
        set_values(LEAST, [pair])


def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "r.toml"
    with pytest.raises(SettingsError, match="no such recipe"):
        read_recipe(place)
    place.write_text("task = classify\n")
    with pytest.raises(SettingsError, match=r"r\.toml: not TOML.*line 1"):
        read_recipe(place)
