from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xlmr.errors import SettingsError
from xlmr.training.data import read_examples
from xlmr.training.joined import join_rows
from xlmr.training.objectives import schema_of
from xlmr.training.recipe import Recipe, make_recipe

LATER = [
    {"text": f"later {n} words", "label": label, "language": "tr", "id": f"p{n}"}
    for n, label in enumerate(["refund", "spam"] * 25)
]


def recipe(place: Path, **data: Any) -> Recipe:
    return make_recipe(
        {
            "task": "classify",
            "encoder": "models/starter",
            "data": {"train": str(place / "data"), "near_duplicates": "keep", **data},
        }
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for name, words in (("en.train", "abcd"), ("en.dev", "ef"), ("de.train", "gh")):
        rows = [{"text": word * 9, "label": "refund" if word < "c" else "spam"} for word in words]
        (tmp_path / "data" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "out").mkdir()
    return tmp_path


def rows_of(path: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def test_both_are_learned_from_and_a_part_is_held_out(place: Path) -> None:
    joined = join_rows(recipe(place, languages=["en"]), LATER, place / "out")
    train, dev = rows_of(joined.data.train), rows_of(joined.data.dev)
    assert [row["text"] for row in train[:4]] == ["a" * 9, "b" * 9, "c" * 9, "d" * 9]
    assert len(train) + len(dev) == 4 + 2 + 50
    assert 3 <= len(dev) - 2 <= 20
    assert joined.data.languages == ()
    assert joined.data.calibrate == ""
    assert Path(joined.encoder).is_absolute()
    found = read_examples(joined.data, schema_of(joined))
    assert (len(found.train), len(found.dev)) == (len(train), len(dev))
    assert {row.language for row in found.train} == {"en", "tr"}
    # Asked for again it is the same, to the byte.
    before = Path(joined.data.train).read_bytes()
    assert join_rows(recipe(place, languages=["en"]), LATER, place / "out") == joined
    assert Path(joined.data.train).read_bytes() == before


def test_nothing_is_held_out_where_the_recipe_holds_nothing_out(place: Path) -> None:
    joined = join_rows(recipe(place, languages=["de"]), LATER, place / "out")
    assert joined.data.dev == ""
    assert len(rows_of(joined.data.train)) == 52


def test_a_label_that_training_does_not_know_is_learned(place: Path) -> None:
    later = [LATER[0] | {"id": f"x{n}", "label": f"new {n}"} for n in range(20)]
    joined = join_rows(recipe(place), later, place / "out")
    known = {row["label"] for row in rows_of(joined.data.train)}
    assert {row["label"] for row in later} <= known
    assert {row["label"] for row in rows_of(joined.data.dev)} <= known


def test_columns_and_calibration_rows_go_with_it(place: Path) -> None:
    for name in ("train", "more"):
        row = {"said": name * 3, "label": "refund", "language": "fi"}
        other = row | {"said": name * 5, "label": "spam"}
        (place / f"{name}.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(other)}")
    made = recipe(
        place,
        train=str(place / "train.jsonl"),
        calibrate=str(place / "more.jsonl"),
        columns={"text": "said"},
    )
    joined = join_rows(made, LATER, place / "out")
    assert [row["text"] for row in rows_of(joined.data.calibrate)] == ["more" * 3, "more" * 5]
    assert joined.data.columns == {}
    assert len(read_examples(joined.data, schema_of(joined)).train) == 52


def test_rows_of_another_task_are_joined_likewise(place: Path) -> None:
    for name, words in (("en.train", "abcd"), ("en.dev", "ef")):
        rows = [{"text": word * 9, "labels": ["refund", word]} for word in words]
        (place / "data" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = make_recipe(
        {
            "task": "multi-label",
            "encoder": "models/starter",
            "data": {"train": str(place / "data"), "languages": ["en"], "near_duplicates": "keep"},
        }
    )
    said = ['["refund"]', '["a", "spam"]', "[]", "refund"]
    later = [row | {"label": said[n % 4]} for n, row in enumerate(LATER)]
    joined = join_rows(made, later, place / "out")
    found = read_examples(joined.data, schema_of(joined))
    # One of four says no labels that can be read.
    assert len(found.train) + len(found.dev) == 4 + 2 + 38
    assert {row.labels for row in found.train if row.language == "tr"} == {
        *((), ("refund",), ("a", "spam")),
    }


def test_what_learns_something_else_is_refused(place: Path) -> None:
    other = make_recipe({"task": "answer", "encoder": "x", "data": {"train": "y"}})
    with pytest.raises(SettingsError, match="cannot learn from feedback"):
        join_rows(other, LATER, place / "out")
