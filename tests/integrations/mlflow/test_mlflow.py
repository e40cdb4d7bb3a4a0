"""Runs told to a real MLflow server on this machine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner, Result
from tests.integrations.runs import noted, small_recipe

from xlmr.cli.main import cli
from xlmr.training.rundir import run_path


def train(place: Path, *more: str) -> Result:
    command = ["train", str(place / "recipe.toml"), "--out", str(place / "model"), *more]
    return CliRunner().invoke(cli, command)


def runs(client: mlflow.MlflowClient, experiment: str) -> list[mlflow.entities.Run]:
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id]))


def test_a_run_can_be_read_there(
    client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "whole")
    recipe = small_recipe(tmp_path)
    done = train(tmp_path, "--track", "mlflow")
    assert done.exit_code == 0, done.output
    (run,) = runs(client, "whole")
    assert (run.info.status, run.info.run_name) == ("FINISHED", "small")
    assert run.data.params["run.epochs"] == "4"
    assert run.data.tags["recipe"] == recipe.digest
    steps = noted(tmp_path / "model")
    losses = {m.step: m.value for m in client.get_metric_history(run.info.run_id, "loss")}
    assert losses == {step["number"]: step["loss"] for step in steps}
    scores = client.get_metric_history(run.info.run_id, "dev/accuracy/ru")
    assert [m.value for m in scores] == [s["dev"]["by_language"]["ru"] for s in steps if s["dev"]]
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"recipe.toml", "record.json", "curves.png"}


def test_a_run_that_fails_is_said_to_have_failed(
    client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "failed")
    monkeypatch.setenv("XLMR_TRACKER", "mlflow")
    small_recipe(tmp_path, "optimizer.learning_rate=1e38")
    assert train(tmp_path).exit_code == 1
    assert [run.info.status for run in runs(client, "failed")] == ["FAILED"]


def test_a_run_that_was_killed_goes_on_in_the_same_run(
    client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "killed")
    small_recipe(tmp_path, "run.epochs=100", "run.checkpoint_s=0.0001")
    recipe, out = str(tmp_path / "recipe.toml"), str(tmp_path / "model")
    command = [recipe, "--out", out, "--track", "mlflow"]
    process = subprocess.Popen(
        [sys.executable, "-m", "xlmr", "train", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    started = run_path(tmp_path / "model")
    patience = time.monotonic() + 180.0
    # Before its first checkpoint there is nothing to go on with, and the next run is another.
    while not ((started / "tracker.json").exists() and (started / "state.pt").exists()):
        assert process.poll() is None
        assert time.monotonic() < patience
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = train(tmp_path, "--track", "mlflow")
    assert done.exit_code == 0, done.output
    (run,) = runs(client, "killed")
    assert run.info.status == "FINISHED"
    assert json.loads((started / "tracker.json").read_text()) == {"mlflow": run.info.run_id}


def test_a_server_that_is_gone_does_not_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:  # bound, and never listening
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        mlflow.set_tracking_uri(address)
        small_recipe(tmp_path)
        done = train(tmp_path, "--track", "mlflow")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "model" / "model.safetensors").exists()
    assert done.stderr.count("mlflow") >= 1
    assert "messages lost" in done.stderr
