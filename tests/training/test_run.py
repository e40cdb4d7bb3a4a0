"""A recipe becomes a model: it learns, repeats itself to the byte, and survives being killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from tests.tiny import tiny_model

from xlmr.errors import TrainingError
from xlmr.model.bundle import open_bundle
from xlmr.training.data import read_examples
from xlmr.training.devices import Device
from xlmr.training.loop import Step
from xlmr.training.objectives import schema_of
from xlmr.training.optimizer import learning
from xlmr.training.recipe import Recipe, make_recipe, set_values
from xlmr.training.run import Training
from xlmr.training.rundir import open_run

ROWS = [
    ("where is my parcel", "delivery", "en"),
    ("parcel not arrived", "delivery", "en"),
    ("где посылка", "delivery", "ru"),
    ("refund the money", "refund", "en"),
    ("my money refund", "refund", "en"),
    ("a refund", "refund", "en"),
]
DEV = [
    ("the parcel", "delivery", "en"),
    ("the money", "refund", "en"),
    ("посылка", "delivery", "ru"),
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices gain nothing from threads, and lose much where other work shares the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    for name, rows in (("train", ROWS), ("dev", DEV)):
        lines = [json.dumps({"text": t, "label": la, "language": lg}) for t, la, lg in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return make_recipe(
        {
            "task": "classify",
            "encoder": str(tiny_model(tmp_path, "embed")),
            "seed": 5,
            "data": {
                "train": str(tmp_path / "train.jsonl"),
                "dev": str(tmp_path / "dev.jsonl"),
                "near_duplicates": "keep",
            },
            "run": {"epochs": 8, "batch_tokens": 18},
            "optimizer": {"learning_rate": 1e-2},
        }
    )


def changed(recipe: Recipe, *said: str) -> Recipe:
    return make_recipe(set_values(recipe.to_json(), said))


def training_of(recipe: Recipe) -> Training:
    bundle = open_bundle(Path(recipe.encoder))
    return Training(recipe, bundle, read_examples(recipe.data, schema_of(recipe)), Device())


def run(recipe: Recipe, out: Path, *, stop_after: int | None = None) -> list[Step]:
    """Runs a recipe to its end, or leaves it after a step as a kill would."""
    training = training_of(recipe)
    steps = []
    with open_run(out, training.identity(), recipe.to_toml(), fresh=False) as directory:
        for step in training.steps(directory):
            steps.append(step)
            if step.number == stop_after:
                return steps
        training.write(out, force=False)
        directory.finish(training.record(seconds=0.0, tokens=0))
    return steps


def content(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_it_learns_and_its_steps_tell_of_it(recipe: Recipe, tmp_path: Path) -> None:
    steps = run(recipe, tmp_path / "model")
    first = [step.loss for step in steps if step.epoch == 1]
    last = [step.loss for step in steps if step.epoch == 8]
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert np.mean(last) < np.mean(first) / 2
    assert steps[-1].done == 1.0
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    ends = [step for step in steps if step.dev]
    assert [step.epoch for step in ends] == list(range(1, 9))
    assert set(ends[-1].dev.by_language) == {"en", "ru"}  # type: ignore[union-attr]


def test_the_same_recipe_writes_the_same_bytes(recipe: Recipe, tmp_path: Path) -> None:
    run(recipe, tmp_path / "a")
    run(recipe, tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")
    run(changed(recipe, "seed=6"), tmp_path / "c")
    assert content(tmp_path / "a") != content(tmp_path / "c")


@pytest.mark.parametrize("stop_after", [1, 5, 9])
def test_a_run_left_anywhere_continues_to_the_same_bytes(
    recipe: Recipe, tmp_path: Path, stop_after: int
) -> None:
    recipe = changed(recipe, "run.checkpoint_s=0.0001")
    whole = run(recipe, tmp_path / "whole")
    run(recipe, tmp_path / "left", stop_after=stop_after)
    rest = run(recipe, tmp_path / "left")
    assert rest[0].number <= stop_after + 1
    assert content(tmp_path / "left") == content(tmp_path / "whole")
    noted = (tmp_path / "left.run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in noted] == [step.number for step in whole]


def test_a_killed_process_continues_to_the_same_weights(recipe: Recipe, tmp_path: Path) -> None:
    recipe = changed(recipe, "run.checkpoint_s=0.0001", "run.epochs=40")
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    command = [sys.executable, "-m", "xlmr", "train", str(tmp_path / "recipe.toml"), "--out"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def finish(out: Path) -> None:
        subprocess.run([*command, str(out)], check=True, env=environment, capture_output=True)

    finish(tmp_path / "whole")
    killed = subprocess.Popen([*command, str(tmp_path / "killed")], env=environment)
    metrics = tmp_path / "killed.run" / "metrics.jsonl"
    patience = time.monotonic() + 60.0
    while not metrics.exists() or len(metrics.read_bytes().splitlines()) < 5:
        assert time.monotonic() < patience
        assert killed.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert (tmp_path / "killed.run" / "state.pt").exists()
    finish(tmp_path / "killed")
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_an_unfinished_run_of_another_recipe_is_not_continued(
    recipe: Recipe, tmp_path: Path
) -> None:
    run(changed(recipe, "run.checkpoint_s=0.0001"), tmp_path / "m", stop_after=2)
    with pytest.raises(TrainingError, match="its recipe is not this one's") as caught:
        run(changed(recipe, "seed=9"), tmp_path / "m")
    assert "--fresh" in caught.value.hint


def test_two_runs_of_one_target_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    training = training_of(recipe)
    identity = training.identity()
    with (
        open_run(tmp_path / "m", identity, "", fresh=False),
        pytest.raises(TrainingError, match="another run is going on"),
        open_run(tmp_path / "m", identity, "", fresh=False),
    ):
        pass


def test_a_broken_checkpoint_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    recipe = changed(recipe, "run.checkpoint_s=0.0001")
    run(recipe, tmp_path / "m", stop_after=2)
    state = tmp_path / "m.run" / "state.pt"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(TrainingError, match="not a checkpoint that can be read"):
        run(recipe, tmp_path / "m")


def test_patience_ends_a_run_that_no_longer_gains(recipe: Recipe, tmp_path: Path) -> None:
    steps = run(changed(recipe, "run.epochs=200", "run.patience=2"), tmp_path / "m")
    scores = [step.dev.macro for step in steps if step.dev]
    assert len(scores) < 200
    assert max(scores[:-2]) >= max(scores[-2:])


def test_the_best_epoch_is_kept(recipe: Recipe, tmp_path: Path) -> None:
    training = training_of(changed(recipe, "run.epochs=20"))
    after: dict[int, Any] = {}
    with open_run(tmp_path / "m", training.identity(), "", fresh=False) as directory:
        for step in training.steps(directory):
            if step.dev:
                named = learning(training.state.network)  # type: ignore[union-attr]
                after[step.epoch] = {name: p.detach().clone() for name, p in named}
        named = learning(training.state.network)  # type: ignore[union-attr]
        kept = {name: p.detach().clone() for name, p in named}
        training.write(tmp_path / "m", force=False)
    best = max(training.scores, key=lambda score: score.macro)
    assert best.epoch < 20, "the last epoch is the best: this run shows nothing"
    assert all(torch.equal(kept[name], weight) for name, weight in after[best.epoch].items())
    assert not all(torch.equal(kept[name], weight) for name, weight in after[20].items())
    written = json.loads((tmp_path / "m" / "xlmr.json").read_text())["report"]["best"]
    assert (written["epoch"], written["macro"]) == (best.epoch, best.macro)


def test_a_loss_that_is_no_number_stops_the_run(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not a number at step") as caught:
        run(changed(recipe, "optimizer.learning_rate=1e38"), tmp_path / "m")
    assert "optimizer.learning_rate=2.5e+37" in caught.value.hint
    assert not (tmp_path / "m").exists()


def test_a_collapsed_loss_stops_the_run(recipe: Recipe, tmp_path: Path) -> None:
    said = ("optimizer.learning_rate=1e-12", "optimizer.head=random", "run.epochs=40")
    with pytest.raises(TrainingError, match="has learned nothing"):
        run(changed(recipe, *said), tmp_path / "m")


def test_memory_that_is_not_there_stops_the_run_with_advice(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = training_of(recipe)

    def greedy(*_: Any) -> Any:
        return torch.empty(2**55)

    monkeypatch.setattr(training.objective, "loss", greedy)
    with (
        open_run(tmp_path / "m", training.identity(), "", fresh=False) as directory,
        pytest.raises(TrainingError, match="out of memory on a batch of") as caught,
    ):
        list(training.steps(directory))
    assert "run.batch_tokens=9" in caught.value.hint


@pytest.mark.parametrize(
    "said",
    [
        ("method=lora", "lora.rank=2"),
        ("run.accumulate=2",),
        ("optimizer.layer_decay=0.5",),
        ("optimizer.train_embeddings=none",),
        ("optimizer.train_embeddings=all",),
        ("data.balance=0.3", "optimizer.learning_rate=0.003"),
        ('data.class_weights="balanced"',),
        ("run.precision=bf16",),
    ],
    ids=lambda said: said[0],
)
def test_every_way_of_learning_learns(
    recipe: Recipe, tmp_path: Path, said: tuple[str, ...]
) -> None:
    # A fitted head would leave the steps too little to learn.
    steps = run(changed(recipe, "optimizer.head=random", *said), tmp_path / "m")
    assert steps[-1].loss < steps[0].loss
    opened = open_bundle(tmp_path / "m")
    assert opened.tasks >= {"classify"}
    names = safetensors.safe_open(tmp_path / "m" / "model.safetensors", "np").keys()
    assert not any("lora" in name for name in names)


def test_learning_the_rows_that_are_used_is_learning_all(recipe: Recipe, tmp_path: Path) -> None:
    recipe = changed(recipe, "optimizer.weight_decay=0.0", "run.epochs=3")
    found = {}
    for rows in ("all", "seen"):
        run(changed(recipe, f'optimizer.train_embeddings="{rows}"'), tmp_path / rows)
        file = safetensors.safe_open(tmp_path / rows / "model.safetensors", "np")
        found[rows] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, array in found["all"].items():
        np.testing.assert_allclose(found["seen"][name], array, atol=1e-6, err_msg=name)
    before = safetensors.safe_open(Path(recipe.encoder) / "model.safetensors", "np")
    name = "embeddings.word_embeddings.weight"
    moved_V = (found["seen"]["roberta." + name] != before.get_tensor(name)).any(axis=1)
    assert 0 < moved_V.sum() < len(moved_V)
