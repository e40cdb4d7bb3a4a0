"""What people say, as rows of each task; and back from files, as the same rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xlmr.errors import SettingsError
from xlmr.training.data import read_examples
from xlmr.training.later import Said, labels_in, said_of
from xlmr.training.objectives import schema_of
from xlmr.training.recipe import Data, Recipe, make_recipe

PAIR = "it rains\nthe street is wet"


def recipe(task: str, rows: str = "") -> Recipe:
    data = {"train": "data", "rows": rows}
    return make_recipe({"task": task, "encoder": "models/starter", "data": data})


def said(task: str, rows: str = "") -> Said:
    return said_of(recipe(task, rows))


@pytest.mark.parametrize(
    ("task", "rows", "text", "label", "expected"),
    [
        ("classify", "", "a b", "refund", {"text": "a b", "label": "refund"}),
        ("multi-label", "", "a b", '["b", "a", "b"]', {"text": "a b", "labels": ["a", "b"]}),
        ("multi-label", "", "a b", "[]", {"text": "a b", "labels": []}),
        ("score", "", "a b", "-2.5", {"text": "a b", "score": -2.5}),
        (
            *("infer", "", PAIR, "entailment"),
            {"premise": "it rains", "hypothesis": "the street is wet", "label": "entailment"},
        ),
        ("infer", "paraphrase", "x\ny", "same", {"a": "x", "b": "y", "label": "same"}),
        ("score", "similarity", "x\ny", "4", {"a": "x", "b": "y", "score": 4.0}),
        (
            *("tag", "", "call <NAME> now", "O B-PER O"),
            {"text": "call <NAME> now", "tokens": ["call", "<NAME>", "now"]}
            | {"tags": ["O", "B-PER", "O"]},
        ),
    ],
)
def test_a_label_says_a_row(
    task: str, rows: str, text: str, label: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    found = said(task, rows).read(text, label)
    assert found == expected
    # As a file it is read as that row, and written again it is the same columns.
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(found | {"language": "en"}), encoding="utf-8")
    schema = schema_of(recipe(task, rows))
    (row,) = read_examples(Data(train=str(path), rows=rows), schema).train
    again = {
        k: list(v) if isinstance(v, tuple) else v for k, v in said(task, rows).write(row).items()
    }
    assert again == expected


@pytest.mark.parametrize(
    ("task", "text", "label"),
    [
        ("classify", "a", " "),
        ("multi-label", "a", "refund"),
        ("multi-label", "a", '{"refund": 1}'),
        ("multi-label", "a", '["refund", 2]'),
        ("multi-label", "a", '["refund", ""]'),
        ("multi-label", "a", "[" * 100_000),
        ("score", "a", "good"),
        ("score", "a", "nan"),
        ("score", "a", "inf"),
        ("infer", "only one", "entailment"),
        ("infer", "one\ntwo\nthree", "entailment"),
        ("infer", "one\n ", "entailment"),
        ("infer", PAIR, " "),
        # Of a name of two words one placeholder is left: nobody knows which tag is whose.
        ("tag", "call <NAME> now", "O B-PER I-PER O"),
        ("tag", "call <NAME> now", "O PER O"),
    ],
)
def test_what_does_not_say_one_gives_none(task: str, text: str, label: str) -> None:
    assert said(task).read(text, label) is None


@pytest.mark.parametrize(
    ("task", "why"),
    [
        ("answer", "no places"),
        ("embed", "said of two"),
        ("rerank", "said of several"),
        ("fill", "needs no labels"),
    ],
)
def test_what_feedback_cannot_say_is_refused_with_what_to_do(task: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why) as caught:
        said(task)
    assert "label rows of your own" in str(caught.value.hint)


def test_labels_of_each_kind_of_row_are_known() -> None:
    assert labels_in({"label": "a"}) == {"a"}
    assert labels_in({"labels": ["a", "b"]}) == {"a", "b"}
    assert labels_in({"tags": ["O", "B-PER", "I-PER", "B-LOC"]}) == {"PER", "LOC"}
    assert labels_in({"score": 1.0}) == set()
