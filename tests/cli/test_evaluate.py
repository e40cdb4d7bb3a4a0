"""`xlmr evaluate` as it is typed, for several tasks, on tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.tiny import tiny_model, write_linear_head

from xlmr.cli.main import cli
from xlmr.errors import DataError, TaskError

ROWS = {
    "en": [("where is the parcel", "delivery"), ("money refund", "refund")],
    "ru": [("где посылка", "delivery")],
}
TOP = ("task", "metric", "languages", "n", "macro", "worst", "worst_value", "english")
MORE = ("gap_to_english", "seed", "more_macro", "truncated", "model", "data")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_linear_head(tiny_model(tmp_path, "embed"), ("delivery", "refund"))
    for language, rows in ROWS.items():
        write(tmp_path, language, [{"text": text, "label": label} for text, label in rows])
    monkeypatch.setenv("XLMR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XLMR_THREADS", "1")
    return tmp_path


def write(place: Path, language: str, rows: list[dict[str, Any]]) -> None:
    (place / "data").mkdir(exist_ok=True)
    path = place / "data" / f"{language}.test.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def evaluate(place: Path, *more: object, model: str = "embed") -> Result:
    given = ("evaluate", place / model, "--data", place / "data", *more)
    return CliRunner().invoke(cli, [str(argument) for argument in given])


def as_json(place: Path, *more: object, model: str = "embed") -> dict[str, Any]:
    done = evaluate(place, *more, "--json", "-", model=model)
    assert done.exit_code == 0, done.output + str(done.exception)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_json_has_one_shape_for_every_task(place: Path) -> None:
    classified = as_json(place)
    assert (classified["task"], classified["metric"]) == ("classify", "accuracy")
    tiny_model(place, "rerank")
    for language in ROWS:
        write(place, language, [{"query": "where", "positive": "in paris", "negatives": ["мир"]}])
    ranked = as_json(place, model="rerank")
    assert (ranked["task"], ranked["metric"]) == ("rerank", "mrr")
    for said in (classified, ranked):
        assert tuple(sorted(said)) == tuple(sorted(TOP + MORE))
        assert {tuple(sorted(row)) for row in said["languages"]} == {
            ("high", "language", "low", "more", "n", "script", "truncated", "value")
        }
    assert {row["script"] for row in classified["languages"]} == {"Latn", "Cyrl"}


def test_columns_may_be_called_otherwise(place: Path) -> None:
    for language in ROWS:
        rows = [{"question": "where", "answer": "in paris"}, {"question": "мир", "answer": "мир"}]
        write(place, language, rows)
    done = evaluate(place)
    assert isinstance(done.exception, DataError)
    assert "--column OURS=THEIRS" in str(done.exception)
    said = as_json(place, "--column", "query=question", "--column", "positive=answer")
    assert said["task"] == "rank"
    assert evaluate(place, "--column", "query").exit_code == 2


def test_a_task_that_the_model_cannot_do_is_refused(place: Path) -> None:
    write(place, "en", [{"tokens": ["anna"], "tags": ["B-PER"]}])
    assert isinstance(evaluate(place, "--language", "en").exception, DataError)
    done = evaluate(place, "--language", "en", "--task", "tag")
    assert isinstance(done.exception, TaskError)


def test_against_another_number_format(place: Path) -> None:
    """A whole comparison, paired, of int8 with fp32; the page shows it too."""
    html = place / "page.html"
    options = ("--precision", "int8", "--against-precision", "fp32", "--html", html)
    done = evaluate(place, *options, "--json", place / "r.json")
    assert done.exit_code == 0, done.output
    assert "against native fp32" in done.output
    said = json.loads((place / "r.json").read_text())
    assert "fp32" in said["precision"]["old"]["runtime"]
    assert "int8" in said["precision"]["new"]["runtime"] == said["model"]["runtime"]
    by_language = {row["language"]: row for row in said["precision"]["languages"]}
    values = {row["language"]: row["value"] for row in said["languages"]}
    assert {name: row["new"] for name, row in by_language.items()} == values
    assert "Against the other number format" in html.read_text(encoding="utf-8")


def test_against_another_model_translations_are_drawn_together(place: Path) -> None:
    """Ten languages that say the same are no ten times more evidence than one."""
    write_linear_head(tiny_model(place / "older", "embed", seed=1), ("delivery", "refund"))
    older = place / "older" / "embed"
    texts = ["where is the parcel", "money refund", "hello", "anna", "paris", "посылка", "мир"]
    rows = [
        {"text": f"{one} {two}", "label": "refund", "id": f"{one}{two}"}
        for one in texts
        for two in texts
    ]
    write(place, "en", rows)
    (place / "data" / "ru.test.jsonl").unlink()
    alone = as_json(place, "--against", older)["comparison"]
    for language in ("de", "fr", "sw"):
        write(place, language, rows[::-1])
    html = place / "page.html"
    together = as_json(place, "--against", older, "--html", html)["comparison"]
    assert (alone["together"], together["together"]) == (None, "id")

    def width(found: dict[str, Any]) -> float:
        return float(found["macro"]["high"] - found["macro"]["low"])

    assert together["macro"]["difference"] == pytest.approx(alone["macro"]["difference"])
    assert width(alone) > 0.05
    assert width(together) == pytest.approx(width(alone), rel=0.2)
    said = "The macro interval draws rows with the same id together, as translations."
    assert said in html.read_text(encoding="utf-8")
    assert said in evaluate(place, "--against", older).output


def test_rows_at_fault_stop_it_or_are_counted(place: Path) -> None:
    write(place, "ru", [{"text": "где", "label": "refund"}, {"text": " ", "label": "refund"}])
    done = evaluate(place)
    assert isinstance(done.exception, DataError)
    assert "ru.test.jsonl:2: text" in str(done.exception)
    kept = evaluate(place, "--faults", "skip", "--json", place / "r.json")
    assert "1 rows could not be read and were left out" in kept.output
    files = json.loads((place / "r.json").read_text())["data"]
    assert {file["file"]: file["refused"] for file in files} == {
        "en.test.jsonl": 0,
        "ru.test.jsonl": 1,
    }


def test_likely_wrong_labels_are_written_without_texts(place: Path) -> None:
    pytest.importorskip("cleanlab")
    rows = [
        {"text": f"where is my parcel {i}", "label": ("delivery", "refund")[i % 2]}
        for i in range(40)
    ]
    write(place, "en", rows)
    path = place / "wrong.jsonl"
    done = evaluate(place, "--label-errors", path)
    assert done.exit_code == 0, done.output + str(done.exception)
    said = path.read_text().splitlines()
    assert f"{len(said)} labels are likely wrong" in done.output
    # The model gives all of these nearly the same answer, so half of the labels contradict it.
    assert said
    assert "parcel" not in "".join(said)


def test_a_text_of_a_hundred_thousand_characters_is_cut_and_counted(place: Path) -> None:
    write(place, "ru", [{"text": "где посылка " * 9_000, "label": "refund"}])
    done = evaluate(place)
    assert "1 rows were longer than the model reads and were cut" in done.output
    assert as_json(place)["truncated"] == 1
