"""`xlmr gate` as it is typed: what it decides, by which status it ends, what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.tiny import LABELS, tiny_model

from xlmr.cli.main import cli
from xlmr.errors import DataError, PromotionError, SettingsError
from xlmr.evaluation.golden import GOLDEN_FILE, make_golden
from xlmr.model.predictor import load
from xlmr.registry.promotion import check_report

WAIVED = ("--waive", "calibration", "--waive", "int8", "--p95-ms", "100000")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XLMR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XLMR_THREADS", "1")
    (tmp_path / "data").mkdir()
    for name in ("new", "live"):
        (tmp_path / name).mkdir()
        tiny_model(tmp_path / name, "classify", seed=1 if name == "live" else 0)
    words = {"en": "where is my parcel refund the money a hello world", "ru": "где посылка мир"}
    new = tmp_path / "new" / "classify"
    with load(new, precision="fp32") as full, load(new, precision="int8") as small:
        (new / GOLDEN_FILE).write_text(json.dumps(make_golden(full, {"int8": small}).to_json()))
        for language, said in words.items():
            texts = [f"{a} {b}" for a in said.split() for b in said.split() if a != b]
            answers = full.classify(texts)
            rows = [
                {"text": text, "label": answer.label}
                for text, answer in zip(texts, answers, strict=True)
            ]
            lines = "\n".join(json.dumps(row) for row in rows)
            (tmp_path / "data" / f"{language}.test.jsonl").write_text(lines)
    return tmp_path


def gate(place: Path, name: str, *more: object) -> Result:
    arguments = ["gate", place / name / "classify", "--data", place / "data", *more]
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_a_first_model_is_released_and_leaves_its_evidence(place: Path) -> None:
    done = gate(place, "new", "--first", *WAIVED, "--out", place / "gate.json")
    assert done.exit_code == 0, done.output
    assert "released; not checked: macro, language, calibration, int8" in done.output
    assert "golden inputs: 17 of 17 kept" in done.output
    said = json.loads((place / "gate.json").read_text())
    assert said["decision"] == {
        "released": True,
        "passed": ["latency", "golden"],
        "waived": ["macro", "language", "calibration", "int8"],
    }
    assert said["live"] is None
    assert set(said["evidence"]["ece"]) == set(said["evidence"]["int8_loss"]) == {"en", "ru"}
    assert len(said["digest"]) == len(said["model"]["digest"]) == 64
    assert {file["file"] for file in said["data"]} == {"en.test.jsonl", "ru.test.jsonl"}
    check_report(said, answers=said["model"]["digest"], live=None)


def test_a_refusal_cannot_be_edited_into_a_release(place: Path) -> None:
    assert gate(place, "new", "--first", "--out", place / "gate.json").exit_code == 1
    said = json.loads((place / "gate.json").read_text())
    said["decision"] = {"released": True, "passed": [], "waived": []}
    with pytest.raises(PromotionError, match="was edited"):
        check_report(said, answers=said["model"]["digest"], live=None)


def test_a_worse_model_is_refused_by_language(place: Path) -> None:
    done = gate(place, "live", "--against", place / "new" / "classify", *WAIVED, "--json")
    assert done.exit_code == 1
    said = json.loads(done.stdout)
    assert not said["decision"]["released"]
    failed = {(reason["check"], reason["language"]) for reason in said["decision"]["reasons"]}
    assert ("macro", None) in failed
    assert ("language", "en") in failed
    assert ("golden", None) in failed  # it has made no promises
    assert said["live"]["digest"] != said["model"]["digest"]


def test_a_better_model_is_released(place: Path) -> None:
    done = gate(place, "new", "--against", place / "live" / "classify", *WAIVED)
    assert done.exit_code == 0, done.output


def test_what_was_not_measured_is_a_reason(place: Path) -> None:
    done = gate(place, "new")
    assert done.exit_code == 1
    assert "macro: there is no comparison with the live version" in done.output
    assert "latency: the policy states no objective for p95 latency" in done.output


def test_golden_inputs_that_changed_are_named(place: Path) -> None:
    path = place / "new" / "classify" / GOLDEN_FILE
    golden = json.loads(path.read_text())
    golden["promises"][3]["answer"] = {LABELS["classify"][0]: 2.0}
    path.write_text(json.dumps(golden))
    done = gate(place, "new", "--first", *WAIVED)
    assert done.exit_code == 1
    assert "golden: golden inputs give other answers" in done.output
    assert "  russian: " in done.output


def test_the_policy_is_a_file(place: Path) -> None:
    policy = place / "release.toml"
    policy.write_text(
        'waive = ["golden", "int8", "calibration"]\nlanguages = ["sw"]\n'
        "[latency]\np95_ms = 1e-9\n[language]\nleast_rows = 20\n"
    )
    done = gate(place, "new", "--against", place / "live" / "classify", "--policy", policy)
    assert done.exit_code == 1
    assert "language: sw: not compared with the live version" in done.output
    assert "language: ru: compared on 6 rows, at least 20 needed" in done.output
    assert "latency: p95 latency is" in done.output


def test_a_policy_that_cannot_be_read_is_refused(place: Path) -> None:
    (place / "bad.toml").write_text("macro = [")
    for name, said in (("bad.toml", "not TOML"), ("none.toml", "no such policy")):
        done = gate(place, "new", "--policy", place / name)
        assert isinstance(done.exception, SettingsError)
        assert said in done.exception.message


def test_rows_are_read_as_evaluate_reads_them(place: Path) -> None:
    """Columns called otherwise, a row that cannot be read, and a label that nobody can give."""
    for language in ("en", "ru"):
        path = place / "data" / f"{language}.test.jsonl"
        path.write_text(path.read_text().replace('"text"', '"said"').replace('"label"', '"kind"'))
    with (place / "data" / "en.test.jsonl").open("a") as file:
        file.write('\n{"said": " ", "kind": "refund"}\n{"said": "hello", "kind": "unheard of"}\n')
    columns = ("--column", "text=said", "--column", "label=kind")
    options = ("--first", *WAIVED, "--out", place / "gate.json", *columns)
    stopped = gate(place, "new", *options)
    assert isinstance(stopped.exception, DataError)
    assert "en.test.jsonl" in stopped.exception.message
    stopped = gate(place, "new", *options, "--faults", "skip")
    assert isinstance(stopped.exception, DataError)
    assert "--unknown-labels wrong" in stopped.exception.hint
    done = gate(place, "new", *options, "--faults", "skip", "--unknown-labels", "wrong")
    assert done.exit_code == 0, done.output + str(done.exception)
    files = json.loads((place / "gate.json").read_text())["data"]
    assert {file["file"]: file["refused"] for file in files} == {
        "en.test.jsonl": 1,
        "ru.test.jsonl": 0,
    }


def test_first_and_against_exclude_each_other(place: Path) -> None:
    done = gate(place, "new", "--first", "--against", place / "live" / "classify")
    assert done.exit_code == 2
    assert "--first says that there is nothing" in done.output
