"""Golden inputs: promised for every task, kept by the same model, broken by another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import tiny_model

from xlmr.errors import ModelRefusedError
from xlmr.evaluation.golden import (
    GOLDEN_FILE,
    INPUTS,
    Golden,
    check_golden,
    distance,
    golden_task,
    make_golden,
    read_golden,
)
from xlmr.model.predictor import load

TASKS = {
    "classify": "classify",
    "multi_label": "classify",
    "regression": "classify",
    "rerank": "classify",
    "tag": "tag",
    "answer": "answer",
    "fill": "fill",
    "embed": "embed",
}


@pytest.mark.parametrize("kind", TASKS)
def test_the_same_model_keeps_its_word_and_another_does_not(tmp_path: Path, kind: str) -> None:
    directory = tiny_model(tmp_path, kind)
    with load(directory, precision="fp32") as full, load(directory, precision="int8") as small:
        golden = make_golden(full, {"int8": small})
        assert golden.task == TASKS[kind]
        assert [promise.name for promise in golden.promises] == list(INPUTS)
        for precision, model in (("fp32", full), ("int8", small)):
            kept = check_golden(model, golden, precision=precision)
            assert (kept.unchanged, kept.inputs) == (True, len(INPUTS))
    (tmp_path / "other").mkdir()
    other = tiny_model(tmp_path / "other", kind, seed=1)
    with load(other, precision="fp32") as changed:
        found = check_golden(changed, golden, precision="fp32")
    assert not found.unchanged
    assert [one.distance for one in found.moved] == sorted(
        (one.distance for one in found.moved), reverse=True
    )
    assert all(one.distance > one.tolerance for one in found.moved)


def test_it_survives_its_file_and_promises_the_same_bytes(tmp_path: Path) -> None:
    directory = tiny_model(tmp_path, "classify")
    assert read_golden(directory) is None
    with load(directory, precision="fp32") as full:
        golden = make_golden(full, {})
        again = make_golden(full, {})
    (directory / GOLDEN_FILE).write_text(json.dumps(golden.to_json()))
    assert read_golden(directory) == golden == again


def test_a_format_without_a_tolerance_is_held_to_that_of_int8(tmp_path: Path) -> None:
    with load(tiny_model(tmp_path, "classify"), precision="fp32") as full:
        golden = make_golden(full, {"int8": full})
        assert check_golden(full, golden, precision="bf16").unchanged
        strict = [replace(p, answer={"refund": 9.0}) for p in golden.promises]
        moved = check_golden(full, Golden("classify", tuple(strict)), precision="bf16").moved
        assert len(moved) == len(INPUTS)
        assert [one.tolerance for one in moved] == pytest.approx([0.02] * len(INPUTS), abs=1e-4)


def test_the_inputs_are_many_and_odd() -> None:
    assert len(INPUTS) >= 16
    assert "" in INPUTS.values()
    assert any(text and not text.strip() for text in INPUTS.values())
    assert max(map(len, INPUTS.values())) > 2400
    assert golden_task(frozenset({"embed", "classify", "rerank"})) == "classify"


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"format": 7}, "expected 1, got 7"),
        ({"format": 1, "task": "classify", "promises": []}, "no promises"),
        ({"format": 1, "task": "sing", "promises": []}, "no promises"),
        ({"format": 1, "task": "classify", "promises": [{"name": "x"}]}, r"\$\.promises"),
    ],
)
def test_another_file_is_refused(value: dict[str, object], place: str) -> None:
    with pytest.raises(ModelRefusedError, match=place):
        Golden.from_json(value)


numbers = st.dictionaries(st.sampled_from("abcd"), st.floats(-1, 1))


@given(numbers, numbers)
def test_distance_is_one(first: dict[str, float], second: dict[str, float]) -> None:
    assert distance(first, first) == 0.0
    assert distance(first, second) == distance(second, first) <= 2.0
    assert distance(first | {"e": float("nan")}, second) == float("inf")
