"""`torchrun`: several processes learn one model, as one process would, and survive being killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from safetensors.numpy import load_file
from tests.integrations.runs import noted, small_recipe

from xlmr.training.rundir import run_path

BESIDE = Path(sys.executable).parent
XLMR = [str(BESIDE / "xlmr"), "train"]
TWO = [str(BESIDE / "torchrun"), "--standalone", "--nproc-per-node", "2", "-m", "xlmr", "train"]


def train(
    command: list[str], place: Path, out: str, *said: str
) -> subprocess.CompletedProcess[str]:
    sets = [word for pair in said for word in ("--set", pair)]
    return subprocess.run(
        [*command, str(place / "recipe.toml"), "--out", str(place / out), *sets],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
    )


def test_two_processes_learn_what_one_learns_with_twice_the_batches(tmp_path: Path) -> None:
    small_recipe(tmp_path)
    one = train(XLMR, tmp_path, "one", "run.accumulate=4")
    assert one.returncode == 0, one.stderr
    two = train(TWO, tmp_path, "two", "run.accumulate=2")
    assert two.returncode == 0, two.stderr
    # One of the two speaks, and says the same but for the time.
    assert two.stdout.splitlines()[:-1] == one.stdout.splitlines()[:-1]
    assert two.stdout.count(" rows to learn from") == 1
    alone, together = noted(tmp_path / "one"), noted(tmp_path / "two")
    assert len(together) == len(alone)
    for a, b in zip(alone, together, strict=True):
        assert (a["number"], a["tokens"]) == (b["number"], b["tokens"])
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-3, abs=1e-5)
        assert b["gradient_norm"] == pytest.approx(a["gradient_norm"], rel=1e-3, abs=1e-5)
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, weights in ours.items():
        assert theirs[name] == pytest.approx(weights, abs=1e-3), name


def test_all_killed_at_once_continue_to_the_same_weights(tmp_path: Path) -> None:
    small_recipe(tmp_path, "run.checkpoint_s=0.0001", "run.epochs=30")
    assert train(TWO, tmp_path, "whole").returncode == 0
    out = tmp_path / "killed"
    run = subprocess.Popen(
        [*TWO, str(tmp_path / "recipe.toml"), "--out", str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    metrics = run_path(out) / "metrics.jsonl"
    patience = time.monotonic() + 120.0
    while not metrics.exists() or len(metrics.read_bytes().splitlines()) < 5:
        assert time.monotonic() < patience
        assert run.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    # Each process leads a session of its own, so no signal to a group reaches all of them.
    for process in [run, *psutil.Process(run.pid).children(recursive=True)]:
        process.kill()
    run.wait()
    assert (run_path(out) / "state.pt").exists()
    again = train(TWO, tmp_path, "killed")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("an unfinished run continues") == 1
    whole, killed = (
        load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed")
    )
    assert all((whole[name] == killed[name]).all() for name in whole)
    steps = [step["number"] for step in noted(out)]
    assert steps == list(range(1, len(noted(tmp_path / "whole")) + 1))
