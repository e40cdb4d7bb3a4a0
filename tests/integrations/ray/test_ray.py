"""The same run in two workers of a local Ray cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from click.testing import CliRunner
from safetensors.numpy import load_file
from tests.integrations.runs import noted, small_recipe

from xlmr.cli.main import cli
from xlmr.errors import TrainingError
from xlmr.settings import Settings, keep_packages_quiet
from xlmr.training.on_ray import train_on_ray
from xlmr.training.recipe import make_recipe, set_values


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Two workers, and a processor more for Ray's own: none of them computes much."""
    keep_packages_quiet()
    # A machine that others use as well may take its time to start them.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "300")
    ray.init(
        num_cpus=3,
        num_gpus=0,
        object_store_memory=128 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
    )
    yield
    ray.shutdown()


def test_two_workers_learn_what_one_process_learns(tmp_path: Path) -> None:
    small_recipe(tmp_path)
    recipe = str(tmp_path / "recipe.toml")
    alone = [recipe, "--out", str(tmp_path / "alone"), "--set", "run.accumulate=2"]
    done = CliRunner().invoke(cli, ["train", *alone])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(cli, ["train", recipe, "--out", str(tmp_path / "two"), "--ray", "2"])
    assert done.exit_code == 0, done.output
    assert "accuracy" in done.output
    for a, b in zip(noted(tmp_path / "alone"), noted(tmp_path / "two"), strict=True):
        assert (a["number"], a["tokens"]) == (b["number"], b["tokens"])
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-3, abs=1e-5)
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("alone", "two"))
    for name, weights in ours.items():
        assert theirs[name] == pytest.approx(weights, abs=1e-3), name
    record = json.loads((tmp_path / "two.run" / "record.json").read_text())
    assert record["machine"]["processes"] == 2
    assert "ray" in record["versions"]


def test_a_fault_of_the_run_is_told_in_its_own_words(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    broken = make_recipe(set_values(recipe.to_json(), ["optimizer.learning_rate=1e38"]))
    with pytest.raises(TrainingError, match="not a number at step") as caught:
        train_on_ray(broken, tmp_path / "model", workers=2, settings=Settings.from_environment())
    assert "learning_rate" in caught.value.hint
    assert not (tmp_path / "model").exists()


def test_more_workers_than_processors_are_refused_at_once(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    with pytest.raises(TrainingError, match="3 CPUs for 4 workers"):
        train_on_ray(recipe, tmp_path / "model", workers=4, settings=Settings.from_environment())
