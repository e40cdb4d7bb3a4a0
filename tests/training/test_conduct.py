"""What goes around a run: its picture, its record, who is told of it, what is said at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import torch
from tests.tiny import tiny_model

from xlmr.errors import TrainingError
from xlmr.evaluation.speed.machine import describe_machine
from xlmr.model.bundle import open_bundle
from xlmr.training.conduct import Conduct
from xlmr.training.data import read_examples
from xlmr.training.devices import Device
from xlmr.training.loop import Step
from xlmr.training.objectives import schema_of
from xlmr.training.recipe import Recipe, make_recipe, set_values
from xlmr.training.run import Training
from xlmr.training.rundir import RunDirectory, run_path
from xlmr.training.trackers.journal import Journal

ROWS = [
    ("where is my parcel", "delivery"),
    ("parcel not arrived", "delivery"),
    ("refund the money", "refund"),
    ("my money refund", "refund"),
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    for name, rows in (("train", ROWS), ("dev", ROWS[1:3])):
        lines = [json.dumps({"text": t, "label": la, "language": "en"}) for t, la in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    data = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "dev")}
    return make_recipe(
        {
            "task": "classify",
            "encoder": str(tiny_model(tmp_path, "embed")),
            "data": data | {"near_duplicates": "keep"},
            "run": {"epochs": 2, "batch_tokens": 14, "checkpoint_s": 0.0001},
        }
    )


def conduct(recipe: Recipe, out: Path, journal: Journal | None = None) -> Conduct:
    bundle = open_bundle(Path(recipe.encoder))
    examples = read_examples(recipe.data, schema_of(recipe))
    return Conduct(Training(recipe, bundle, examples, Device()), out, tracker=journal)


def test_a_run_leaves_its_record_and_its_picture(recipe: Recipe, tmp_path: Path) -> None:
    out, journal = tmp_path / "model", Journal()
    run = conduct(recipe, out, journal)
    steps = list(run.steps())
    assert run.notes == []
    assert (run_path(out) / "curves.png").read_bytes()[1:4] == b"PNG"
    record = json.loads((run_path(out) / "record.json").read_text())
    assert record["steps"] == len(steps)
    assert record["tokens"] == sum(step.tokens for step in steps)
    assert record["tokens_per_second"] == pytest.approx(
        record["tokens"] / record["seconds"], rel=0.01
    )
    assert datetime.fromisoformat(record["started"]) <= datetime.fromisoformat(record["ended"])
    assert record["machine"]["memory_gib"] > 0
    assert record["machine"]["processor"] == describe_machine()["processor"]
    assert record["machine"]["cores"] >= 1
    assert {"torch", "transformers", "numpy"} <= set(record["versions"])
    assert record["identity"]["data"][0]["sha256"]
    assert journal.steps == steps
    assert journal.ends == [record]


def test_energy_is_null_where_nothing_counts_it(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    list(conduct(recipe, tmp_path / "model").steps())
    record = json.loads((tmp_path / "model.run" / "record.json").read_text())
    assert record["energy"] is None


def test_a_run_without_matplotlib_says_so_once(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr("xlmr.training.conduct._DRAWN_EVERY_S", 0.0)
    run = conduct(recipe, tmp_path / "model")
    list(run.steps())
    (note,) = run.notes
    assert note == "no curves.png: matplotlib is not installed (pip install 'xlmr[train]')"
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_a_tracker_that_fails_costs_a_line_and_not_the_run(recipe: Recipe, tmp_path: Path) -> None:
    class Broken(Journal):
        def step(self, step: Step) -> None:
            raise ConnectionError("gone")

    run = conduct(recipe, tmp_path / "model", Broken())
    list(run.steps())
    (note,) = run.notes
    assert "messages lost (ConnectionError: gone)" in note
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_a_run_that_fails_is_told_as_failed(recipe: Recipe, tmp_path: Path) -> None:
    broken = make_recipe(set_values(recipe.to_json(), ["optimizer.learning_rate=1e38"]))
    journal = Journal()
    with pytest.raises(TrainingError, match="not a number"):
        list(conduct(broken, tmp_path / "model", journal).steps())
    assert journal.ends == [None]
    assert not (tmp_path / "model").exists()


def test_a_run_that_was_left_continues_and_its_record_is_of_the_whole(
    recipe: Recipe, tmp_path: Path
) -> None:
    out, journal = tmp_path / "model", Journal()
    left = conduct(recipe, out, journal)
    assert not left.continues
    steps = left.steps()
    next(steps)
    steps.close()
    assert journal.ends == [None]
    again = conduct(recipe, out, journal)
    assert again.continues
    rest = list(again.steps())
    assert journal.known == ["", recipe.digest]
    record = json.loads((run_path(out) / "record.json").read_text())
    noted = list(RunDirectory(run_path(out)).steps())
    assert len(noted) > len(rest) - 1
    assert record["tokens"] == sum(step["tokens"] for step in noted)
    assert record["seconds"] == pytest.approx(sum(step["seconds"] for step in noted), abs=1e-3)
