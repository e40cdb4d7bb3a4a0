"""`benchmarks/training.py`: both sides get the same rows, and what they score reaches the page."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.tiny import tiny_model

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MODULES = ("training", "training_jobs", "training_page")
TOPICS = [("where is my parcel", "delivery"), ("a refund", "refund"), ("my money", "refund")]

# Stands for transformers' script: learns nothing, but writes where and what the script would.
SCRIPT = """
import json, pathlib, shutil, sys


words = [word for word in sys.argv[1:] if word != "--do_train"]
said = dict(zip(words[::2], words[1::2]))
lines = pathlib.Path(said["--train_file"]).read_text("utf-8").splitlines()
rows = [json.loads(line) for line in lines]
assert set(rows[0]) == {"text", "label"}, rows[0]
assert pathlib.Path("accuracy/accuracy.py").exists()
out = pathlib.Path(said["--output_dir"])
shutil.copytree(out.parent / "ours", out)
told = {"train_runtime": 8.0, "epoch": float(said["--num_train_epochs"])}
(out / "train_results.json").write_text(json.dumps(told))
"""


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield {name: __import__(name) for name in MODULES}
    for name in MODULES:
        sys.modules.pop(name, None)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").rstrip("\n").split("\n")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    rows = [{"id": i, "text": text, "label": label} for i, (text, label) in enumerate(TOPICS)]
    write(folder / "topic/sib200/eng_Latn.train.jsonl", rows)
    write(folder / "topic/sib200/eng_Latn.test.jsonl", rows)
    unknown = {"id": 9, "text": "где посылка\u2028?", "label": "never seen"}
    write(folder / "topic/sib200/rus_Cyrl.test.jsonl", [*rows, unknown])
    return folder


def test_both_sides_read_the_same_rows(
    modules: dict[str, ModuleType], data: Path, tmp_path: Path
) -> None:
    jobs = modules["training_jobs"]
    folder = tmp_path / "work"
    assert jobs.prepare(jobs.JOBS["topic"], data, folder, train_rows=2) == 2
    assert len(read(folder / "script/train.json")) == 2
    assert jobs.prepare(jobs.JOBS["topic"], data, folder, test_rows=2) == 3
    theirs = read(folder / "script/train.json")
    ours = read(folder / "train/eng_Latn.train.jsonl")
    assert [(row["text"], row["label"]) for row in ours] == TOPICS
    assert theirs == [{"text": text, "label": label} for text, label in TOPICS]
    assert len((folder / "test/topic/sib200/eng_Latn.test.jsonl").read_text().splitlines()) == 2


def test_test_rows_that_neither_side_can_answer_are_left_out(
    modules: dict[str, ModuleType], data: Path, tmp_path: Path
) -> None:
    jobs = modules["training_jobs"]
    jobs.prepare(jobs.JOBS["topic"], data, tmp_path / "work")
    left = (tmp_path / "work/test/topic/sib200/rus_Cyrl.test.jsonl").read_text("utf-8")
    assert left.count("\n") == len(TOPICS)
    assert "never seen" not in left


def test_questions_come_in_squads_shape(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    jobs = modules["training_jobs"]
    row = {
        "id": 7,
        "question": "Who?",
        "context": "It was Ada\u2028 again.",
        "answers": [{"text": "Ada", "start": 7}],
    }
    write(tmp_path / "data/qa/tydiqa_goldp/en.train.jsonl", [row] * 500)
    for folder in ("mlqa", "tquad"):
        write(tmp_path / f"data/qa/{folder}/de.dev.jsonl", [row])
    assert jobs.prepare(jobs.JOBS["qa"], tmp_path / "data", tmp_path / "work") == 400
    written = json.loads((tmp_path / "work/script/train.json").read_text("utf-8"))["data"]
    assert len(written) == 400
    assert written[0] == {
        "id": "7",
        "question": "Who?",
        "context": row["context"],
        "answers": {"text": ["Ada"], "answer_start": [7]},
    }


def test_missing_rows_are_named(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    jobs = modules["training_jobs"]
    with pytest.raises(SystemExit, match=r"en\.dev\.jsonl: no training rows for ner"):
        jobs.prepare(jobs.JOBS["ner"], tmp_path, tmp_path / "work")


def test_settings_go_to_the_task_they_name(modules: dict[str, ModuleType]) -> None:
    said = ["run.batch_tokens=512", "ner:run.epochs=5", 'data.train="a:b"']
    assert modules["training"].our_arguments("ner", said) == [
        *("--set", "run.batch_tokens=512", "--set", "run.epochs=5", "--set", 'data.train="a:b"')
    ]
    assert "run.epochs=5" not in modules["training"].our_arguments("topic", said)


def run(macro: float, **more: Any) -> dict[str, Any]:
    return {
        "metric": "accuracy",
        "macro": macro,
        "rows": 1839,
        "seconds": 60.0,
        "command": "python it",
        "languages": {"de": {"n": 870, "value": macro}},
    } | more


def test_the_page_shows_the_better_script(modules: dict[str, ModuleType]) -> None:
    rounds = {"ours_seconds": [10.0, 12.0], "script_seconds": [22.0, 24.0], "times_faster": 2.1}
    task = {
        "title": "Sentiment",
        "trained_on": "en.train.jsonl",
        "ours": run(0.61),
        "script-5e-5": run(0.5, languages={"de": {"n": 870, "value": 0.5}}),
        "script-2e-4": run(0.6),
        "rounds": rounds,
    }
    page = modules["training_page"].render(
        {
            "machine": {"processor": "Abacus 9", "python": "3.12.1"},
            "versions": {"torch": "9.9"},
            "threads": 2,
            "epochs": 3,
            "seed": 42,
            "precision": "fp32",
            "train_rows": 0,
            "test_rows": 0,
            "tasks": {"sentiment": task, "topic": {"title": "Topic", "trained_on": "x"}},
        }
    )
    for line in (
        "Measured on Abacus 9 with 2 threads, Python 3.12.1, torch 9.9; 3 epochs, seed 42",
        "| Sentiment | 1,839 | accuracy | 0.610 | 0.600 at 2e-4 | +1.0 "
        "| 11 s / 23 s = 2.10 × faster |",
        "| de | 870 | 0.610 | 0.500 | 0.600 |",
        "| **macro** |  | **0.610** | **0.500** | **0.600** |",
    ):
        assert line in page


@pytest.mark.slow
def test_a_whole_comparison(
    modules: dict[str, ModuleType],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scripts = tmp_path / "scripts"
    (scripts / "text-classification").mkdir(parents=True)
    (scripts / "text-classification" / "run_classification.py").write_text(SCRIPT)
    model = tiny_model(tmp_path / "model", "embed")
    work = tmp_path / "work"
    arguments = [
        *("--scripts", scripts, "--model", model, "--data", data, "--work", work),
        *("--task", "topic", "--epochs", 2, "--threads", 1, "--rates", "5e-5"),
    ]
    monkeypatch.setattr(sys, "argv", ["training.py", *map(str, arguments)])
    modules["training"].main()
    page = capsys.readouterr().out
    assert "## Topic (SIB-200)" in page
    measured = json.loads((work / "training.json").read_text("utf-8"))["tasks"]["topic"]
    # The script's stand-in hands in our model: one yardstick gives both the same.
    assert measured["script-5e-5"]["languages"] == measured["ours"]["languages"]
    assert measured["ours"]["languages"]["rus_Cyrl"]["n"] == len(TOPICS)
    assert str(tmp_path) not in page
    # What is measured is not measured again.
    (scripts / "text-classification" / "run_classification.py").write_text("raise SystemExit(3)")
    modules["training"].main()
    assert capsys.readouterr().out == page
    # Nor are figures of another budget taken for them.
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--train-rows", "2"])
    with pytest.raises(SystemExit, match="measured with train_rows 0; say another --work"):
        modules["training"].main()
