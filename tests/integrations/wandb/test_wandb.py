"""Weights & Biases offline: the run lies in files of its directory, and nothing is sent."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integrations.runs import noted, small_recipe
from wandb.proto import wandb_internal_pb2

from xlmr.training.rundir import run_path


def records(file: Path) -> list[wandb_internal_pb2.Record]:
    """What an offline run keeps until it is synced: LevelDB's log format, after seven bytes."""
    raw = file.read_bytes()
    assert raw[:4] == b":W&B"
    found, begun, place = [], b"", 7
    while place + 7 <= len(raw):
        if (left := 32768 - place % 32768) < 7:  # a block's end is filled up
            place += left
            continue
        size, kind = struct.unpack_from("<HB", raw, place + 4)
        if kind == 0:
            break
        begun += raw[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last piece
            found.append(wandb_internal_pb2.Record.FromString(begun))
            begun = b""
    return found


def test_a_run_is_kept_for_later(tmp_path: Path) -> None:
    small_recipe(tmp_path)
    out = tmp_path / "model"
    command = ["train", str(tmp_path / "recipe.toml"), "--out", str(out), "--track", "wandb"]
    # A process of its own: the last of it is written when that ends.
    done = subprocess.run(
        [sys.executable, "-m", "xlmr", *command],
        env=os.environ | {"WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "wandb" not in done.stdout + done.stderr
    (file,) = run_path(out).glob("wandb/offline-run-*/*.wandb")
    known = json.loads((run_path(out) / "tracker.json").read_text())["wandb"]
    assert file.name == f"run-{known}.wandb"
    kept = records(file)
    told = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in r.history.item}
        for r in kept
        if r.WhichOneof("record_type") == "history"
    ]
    steps = noted(out)
    assert [row["loss"] for row in told] == pytest.approx([step["loss"] for step in steps])
    scores = [row["dev/accuracy/ru"] for row in told if "dev/accuracy/ru" in row]
    assert scores == [step["dev"]["by_language"]["ru"] for step in steps if step["dev"]]
    (run,) = [r.run for r in kept if r.WhichOneof("record_type") == "run"]
    assert run.display_name == "small"
    assert [r.exit.exit_code for r in kept if r.WhichOneof("record_type") == "exit"] == [0]
    # Neither code, nor output, nor a picture of the machine.
    said = file.read_bytes()
    assert b"parcel" not in said
    assert not [r for r in kept if r.WhichOneof("record_type") in ("stats", "output_raw")]
