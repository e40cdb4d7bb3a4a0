"""`xlmr compress`: what it says, what it refuses, and that a kill costs no more than a restart."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.tiny import tiny_model

from xlmr.cli.compress import compress_command
from xlmr.errors import DataError, ModelError, SettingsError

TEXTS = {
    "en": ["where is my parcel", "hello world", "refund the money", "anna lives in paris"],
    "ru": ["привет мир", "где посылка", "мир где", "посылка"],
}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for language, said in TEXTS.items():
        for split in ("train", "test"):
            rows = [json.dumps({"text": text, "label": "refund"}) for text in said]
            (folder / f"{language}.{split}.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XLMR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XLMR_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "200")


def invoke(*arguments: Any) -> Result:
    result = CliRunner().invoke(compress_command, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_every_step_is_shown_with_size_speed_and_cost(tmp_path: Path, texts: Path) -> None:
    model, out = tiny_model(tmp_path, num_hidden_layers=4), tmp_path / "out"
    result = invoke(
        model,
        "--languages",
        "en,ru",
        "--texts",
        texts,
        "--layers",
        2,
        "--eval",
        texts,
        "--out",
        out,
    )
    assert result.exit_code == 0
    lines = [line for line in result.output.splitlines() if "int8" in line or "fp32" in line]
    assert [" ".join(line.replace("│", " ").split()[:2]) for line in lines[:3]] == [
        "original fp32",
        "original int8",
        "trimmed int8",
    ]
    assert "By language: accuracy" in result.output
    assert "of 216 pieces kept (8 texts)" in result.output
    assert "epoch 2: agreement" in result.output
    assert result.output.splitlines()[-1] == str(out)


def test_machines_get_the_same_figures(tmp_path: Path, texts: Path) -> None:
    model, out = tiny_model(tmp_path), tmp_path / "out"
    result = invoke(
        model, "--languages", "ru", "--texts", texts, "--eval", texts, "--out", out, "--json"
    )
    told = json.loads(result.stdout)
    assert told["model"] == str(out)
    assert told["languages"] == ["ru"]
    assert told["trimmed"]["before"] == 216
    original, int8, trimmed = told["steps"]
    assert trimmed["pieces"] == told["trimmed"]["pieces"] < original["pieces"] == 216
    assert trimmed["prepared_bytes"] < int8["prepared_bytes"] < original["prepared_bytes"]
    assert trimmed["metric"] == "accuracy"
    assert set(trimmed["scores"]) == {"ru"}
    assert trimmed["scores"] == int8["scores"]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (["--languages", "en,xx", "--texts", "{texts}"], DataError, "no texts in xx"),
        (["--languages", "en", "--texts", "{texts}/none"], DataError, "no such file"),
        (["--layers", "5", "--data", "{texts}"], SettingsError, "--layers 5: the model has 2"),
        (
            ["--layers", "1", "--data", "{texts}", "--set", "run.epoch=3"],
            SettingsError,
            "unknown field `epoch`",
        ),
        (
            ["--languages", "en", "--texts", "{texts}", "--eval", "{texts}", "--eval-split", "x"],
            DataError,
            "no x rows in en",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, texts: Path, options: list[str], error: type[Exception], words: str
) -> None:
    model = tiny_model(tmp_path)
    filled = [option.format(texts=texts) for option in options]
    with pytest.raises(error, match=words):
        invoke(model, *filled, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [["--languages", "en"], ["--layers", "1"]])
def test_without_texts_it_says_which_option_is_missing(tmp_path: Path, options: list[str]) -> None:
    result = invoke(tiny_model(tmp_path), *options, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "--texts" in result.output


def test_a_model_that_stands_there_stays(tmp_path: Path, texts: Path) -> None:
    model = tiny_model(tmp_path)
    other = tiny_model(tmp_path / "other")
    with pytest.raises(ModelError, match="exists"):
        invoke(model, "--languages", "en", "--texts", texts, "--out", other)
    with pytest.raises(ModelError, match="the encoder lies there"):
        invoke(model, "--languages", "en", "--texts", texts, "--out", model, "--force")


ROWS: Mapping[str, tuple[str, list[dict[str, Any]]]] = {
    "multi_label": ("micro_f1", [{"text": "where is my parcel", "labels": ["angry", "urgent"]}]),
    "regression": ("spearman", [{"text": "hello", "score": 1}, {"text": "мир где", "score": 2}]),
    "rerank": ("mrr", [{"query": "where", "positive": "in paris", "negatives": ["мир", "anna"]}]),
    "fill": ("masked_word_accuracy", [{"text": "where is my parcel"}, {"text": "мир где"}]),
}


@pytest.mark.parametrize("kind", list(ROWS))
def test_any_task_is_scored_in_every_language_after_every_step(
    tmp_path: Path, texts: Path, kind: str
) -> None:
    metric, rows = ROWS[kind]
    (tmp_path / "rows").mkdir()
    for language in ("en", "ru"):
        lines = "\n".join(map(json.dumps, rows))
        (tmp_path / "rows" / f"{language}.test.jsonl").write_text(lines)
    model, out = tiny_model(tmp_path, kind), tmp_path / "out"
    options = ("--languages", "en,ru", "--layers", 1, "--epochs", 1, "--eval", tmp_path / "rows")
    told = json.loads(invoke(model, *options, "--texts", texts, "--out", out, "--json").stdout)
    assert [step["step"] for step in told["steps"]][:3] == ["original", "original", "trimmed"]
    assert told["steps"][-1]["layers"] == 1
    for step in told["steps"]:
        assert step["metric"] == metric
        assert set(step["scores"]) == {"en", "ru"}
        assert all(-1 <= score <= 1 for score in step["scores"].values())


def test_rows_that_the_model_cannot_answer_are_refused(tmp_path: Path, texts: Path) -> None:
    model = tiny_model(tmp_path, "tag")
    options = ("--languages", "en", "--texts", texts, "--eval", texts)
    with pytest.raises(DataError, match=r"columns \(label, text\) fit .*; the model fits tag"):
        invoke(model, *options, "--out", tmp_path / "out")


def weights(directory: Path) -> str:
    return hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.slow
def test_a_killed_process_continues_to_the_same_weights(tmp_path: Path, texts: Path) -> None:
    model = tiny_model(tmp_path, "embed", num_hidden_layers=4)
    command = [sys.executable, "-m", "xlmr", "compress", str(model), "--languages", "en,ru"]
    command += ["--texts", str(texts), "--layers", "2", "--epochs", "60", "--out"]
    settings = ("run.batch_tokens=16", "run.checkpoint_s=0.0001")
    sets = [part for setting in settings for part in ("--set", setting)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def finish(out: Path) -> None:
        subprocess.run(
            [*command, str(out), *sets], check=True, env=environment, capture_output=True
        )

    finish(tmp_path / "whole")
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [*command, str(killed), *sets],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    notes = tmp_path / "killed.run" / "metrics.jsonl"
    while process.poll() is None and not (notes.exists() and notes.read_text().count("\n") > 5):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.exists()
    finish(killed)
    assert weights(killed) == weights(tmp_path / "whole")
