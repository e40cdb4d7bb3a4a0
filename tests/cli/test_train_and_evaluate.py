"""`xlmr train` and `xlmr evaluate` on a tiny model, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.tiny import tiny_model

from xlmr.cli.main import cli
from xlmr.errors import DataError, ModelError, TaskError

ROWS = {
    "en.train": [
        ("where is my parcel", "delivery"),
        ("parcel not arrived", "delivery"),
        ("refund the money", "refund"),
        ("my money", "refund"),
    ],
    "en.dev": [("the parcel", "delivery"), ("a refund", "refund")],
    "en.test": [("where is the parcel", "delivery"), ("money refund", "refund")],
    "ru.test": [("где посылка", "delivery")],
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny_model(tmp_path, "embed")
    (tmp_path / "data").mkdir()
    for name, rows in ROWS.items():
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        (tmp_path / "data" / f"{name}.jsonl").write_text("\n".join(lines))
    monkeypatch.setenv("XLMR_RUNTIME", "reference")
    monkeypatch.setenv("XLMR_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def xlmr(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def train(place: Path, *more: object) -> Result:
    known = ("--encoder", place / "embed", "--train", place / "data", "--train-language", "en")
    return xlmr("train", *known, "--out", place / "out", *more)


def test_from_examples_to_a_report(place: Path) -> None:
    done = train(place)
    assert done.exit_code == 0, done.output
    assert "4 rows to learn from, 2 to choose on, 2 labels, en" in done.output
    assert "on 2 dev rows" in done.output
    report = xlmr("evaluate", place / "out", "--data", place / "data", "--json", place / "r.json")
    assert report.exit_code == 0, report.output
    said = [line.split() for line in report.output.splitlines()]
    assert said[0][:2] == ["macro", "accuracy"]
    written = json.loads((place / "r.json").read_text())
    assert [row["language"] for row in written["languages"]] == [
        line[0] for line in said if line and line[0] in ("en", "ru")
    ]
    assert {file["file"] for file in written["data"]} == {"en.test.jsonl", "ru.test.jsonl"}
    assert len(written["model"]["digest"]) == 64


def test_both_print_json_alone_when_asked(place: Path) -> None:
    summary = json.loads(train(place, "--json").stdout)
    assert summary["labels"] == ["delivery", "refund"]
    assert summary["rows"] == {"train": 4, "dev": 2}
    data = ("--data", place / "data" / "en.test.jsonl")
    assert json.loads(xlmr("evaluate", place / "out", *data, "--json", "-").stdout)["n"] == 2


def test_training_rows_that_repeat_dev_rows_are_left_out_and_counted(place: Path) -> None:
    with (place / "data" / "en.train.jsonl").open("a") as file:
        file.write('\n{"text": "THE parcel!", "label": "refund"}')
    done = train(place)
    assert done.exit_code == 0, done.output
    assert "4 rows to learn from" in done.output
    assert "1 training rows nearly repeat dev rows: left out (en 1)" in done.output
    kept = train(place, "--near-duplicates", "keep", "--force")
    assert "kept (en 1)" in kept.output
    refused = train(place, "--near-duplicates", "stop", "--force")
    assert isinstance(refused.exception, DataError)
    summary = json.loads(train(place, "--json", "--force").stdout)
    assert (summary["rows"]["train"], summary["near_duplicates"]) == (4, {"en": 1})


def test_against_an_older_model(place: Path) -> None:
    assert train(place).exit_code == 0
    known = ("evaluate", place / "out", "--data", place / "data", "--against", place / "out")
    done = xlmr(*known, "--json", place / "r.json")
    assert done.exit_code == 0, done.output
    assert "against the older model  +0.0 points macro accuracy" in done.output
    written = json.loads((place / "r.json").read_text())["comparison"]
    assert {row["language"] for row in written["languages"]} == {"en", "ru"}
    assert written["macro"] | {"old": 0, "new": 0} == {
        "n": 3,
        "old": 0,
        "new": 0,
        "difference": 0,
        "low": 0,
        "high": 0,
    }
    assert written["old"] == written["new"]
    assert "comparison" in json.loads(xlmr(*known, "--json", "-").stdout)


def test_harder_slices_of_the_same_rows(place: Path) -> None:
    assert train(place).exit_code == 0
    known = ("evaluate", place / "out", "--data", place / "data", "--slices")
    done = xlmr(*known, "--json", place / "r.json", "--html", place / "r.html")
    assert done.exit_code == 0, done.output
    assert (place / "r.html").read_text(encoding="utf-8").count("<svg") == 3
    written = json.loads((place / "r.json").read_text())
    assert written["slices"]["typos"]["n"] == written["n"] == 3
    assert written["slices"]["code-switched"]["n"] == 2  # nobody asks for a refund in Russian
    # English is ASCII already; only Russian has another form in Latin letters.
    assert [row["language"] for row in written["slices"]["transliterated"]["languages"]] == ["ru"]
    lengths = [part["n"] for name, part in written["slices"].items() if name.endswith("tokens")]
    assert sum(lengths) == 3
    assert "transliterated" in done.output


def test_full_fine_tuning_from_the_command_line(place: Path) -> None:
    options = ("--epochs", 2, "--batch-tokens", 40, "--learning-rate", 0.001, "--seed", 4)
    summary = json.loads(train(place, "--method", "full", *options, "--json").stdout)
    assert summary["held_out"]["rows"] == 2
    written = json.loads((place / "out" / "xlmr.json").read_text())["lineage"]["options"]
    assert written["run"]["epochs"] == 2
    assert written["run"]["batch_tokens"] == 40
    assert (written["seed"], written["optimizer"]["learning_rate"]) == (4, 0.001)
    assert str(place) not in json.dumps(written)
    done = xlmr("evaluate", place / "out", "--data", place / "data", "--language", "ru")
    assert done.exit_code == 0, done.output


def test_options_of_the_other_method_are_refused(place: Path) -> None:
    done = train(place, "--learning-rate", 1)
    assert done.exit_code == 2
    assert "--learning-rate says nothing to --method head" in done.output


def test_a_model_is_not_overwritten_without_force(place: Path) -> None:
    assert train(place).exit_code == 0
    assert isinstance(train(place).exception, ModelError)
    assert train(place, "--force").exit_code == 0


def test_faults_are_told_before_the_model_is_loaded(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "data" / "en.train.jsonl").write_text('{"text": 1, "label": "a"}')
    monkeypatch.setattr("xlmr.model.predictor.load", lambda *_, **__: pytest.fail("loaded"))
    assert isinstance(train(place).exception, DataError)


def test_what_cannot_classify_is_not_scored(place: Path) -> None:
    given = ("evaluate", place / "embed", "--data", place / "data")
    assert isinstance(xlmr(*given).exception, DataError)  # the columns fit no task of the model
    assert isinstance(xlmr(*given, "--task", "classify").exception, TaskError)


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_the_help_teaches_with_an_example(verb: str) -> None:
    assert f"xlmr {verb} " in xlmr(verb, "--help").output.partition("Usage")[2].partition("\n")[2]
