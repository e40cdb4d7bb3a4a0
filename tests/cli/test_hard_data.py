"""Data as it comes: broken files, one class, empty languages, strange labels, endless texts.

Through the commands as they are typed. Each is told clearly, with its place and without its text,
or does what is stated; nothing half done is left behind.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.tiny import tiny_model, write_linear_head

from xlmr.cli.main import cli
from xlmr.errors import DataError

TRAIN = [
    {"text": "where is my parcel", "label": "delivery"},
    {"text": "parcel not arrived", "label": "delivery"},
    {"text": "refund the money", "label": "refund"},
    {"text": "my money", "label": "refund"},
]
DEV = [{"text": "the parcel", "label": "delivery"}, {"text": "a refund", "label": "refund"}]
METHODS = ("head", "full")
# A hundred thousand characters, and a few more.
ENDLESS = "where is my parcel " * 5_300


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_linear_head(tiny_model(tmp_path, "embed"), ("delivery", "refund"))
    for name, rows in (("en.train", TRAIN), ("en.dev", DEV), ("en.test", DEV)):
        write(tmp_path / "data" / f"{name}.jsonl", rows)
    monkeypatch.setenv("XLMR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XLMR_THREADS", "1")
    return tmp_path


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def xlmr(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def train(place: Path, *more: object, task: str = "classify", method: str = "full") -> Result:
    said = ("--task", task, "--method", method, "--encoder", place / "embed", "--seed", 1)
    said += ("--train", place / "data", "--out", place / "out")
    fast = ("--epochs", 1) if method == "full" else ()
    return xlmr("train", *said, *fast, *more)


def evaluate(place: Path, *more: object, model: str = "embed") -> Result:
    return xlmr("evaluate", place / model, "--data", place / "data", *more)


def refused(done: Result, *words: str) -> None:
    """Told as an error of ours that says all of this and shows no text, and nothing was written."""
    assert isinstance(done.exception, DataError), done.output + repr(done.exception)
    said = f"{done.exception}\n{done.output}"
    for word in words:
        assert word in said
    assert "secret" not in said


BROKEN = {
    "cut.jsonl": (b'{"text": "secret", "label": "a", "language": "en"}\n{"text', ":2: not JSON"),
    "latin.jsonl": (b'{"text": "a", "label": "a"}\n{"text": "secr\xe9t"}', ":2: not UTF-8"),
    "list.jsonl": (b'["secret"]', ":1: expected an object, got a list"),
    "nothing.jsonl": (b"\n \n", ": no rows"),
    "quote.csv": (b'text,label,language\n"secret,a,en\n', ":2: not CSV"),
    "columns.csv": (b"text,language\nsecret,en\n", "label"),
    "fields.tsv": (b"text\tlabel\tlanguage\nsecret\ta\ten\tmore\n", ":2: 4 fields under 3 columns"),
    "zip.parquet": (b"PK\x03\x04 secret", ":1: not Parquet, or damaged"),
    "type.jsonl": (b'{"text": ["secret"], "label": "a", "language": "en"}', ":1: text: expected"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_file_is_refused_by_every_command_that_reads_rows(place: Path, name: str) -> None:
    content, said = BROKEN[name]
    path = place / name
    path.write_bytes(content)
    for method in METHODS:
        refused(train(place, "--train", path, method=method), name, said)
        assert not (place / "out").exists()
    refused(evaluate(place, "--data", path, "--task", "classify"), name, said)
    gate = ("gate", place / "embed", "--data", path, "--task", "classify", "--first")
    refused(xlmr(*gate), name, said)


def test_broken_tags_and_answers_are_refused(place: Path) -> None:
    words = place / "en.train.conll"
    words.write_text("Ada B-PER\nsecret\n", encoding="utf-8")
    refused(train(place, "--train", words, task="tag"), "en.train.conll:2:")
    squad = place / "en.train.json"
    squad.write_text(json.dumps({"data": [{"paragraphs": [{"context": "secret"}]}]}))
    refused(train(place, "--train", squad, task="answer"), "data[0].paragraphs[0].qas: missing")


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_one_class_cannot_be_learned_from(place: Path, method: str) -> None:
    write(place / "data" / "en.train.jsonl", TRAIN[:2])
    refused(train(place, method=method), "every row has the same label")
    assert not (place / "out").exists()


def test_rows_of_one_class_are_scored_without_what_needs_two(place: Path) -> None:
    write(place / "data" / "en.test.jsonl", TRAIN[:2])
    write(place / "data" / "de.test.jsonl", TRAIN)
    done = evaluate(place, "--json", "-")
    assert done.exit_code == 0, done.output
    by_language = {row["language"]: row for row in json.loads(done.stdout)["languages"]}
    assert "auroc" in by_language["de"]["more"]
    assert "auroc" not in by_language["en"]["more"]
    assert 0 <= by_language["en"]["low"] <= by_language["en"]["high"] <= 1


def test_numbers_that_never_vary_have_no_correlation(place: Path) -> None:
    rows = [{"text": row["text"], "score": 3.0} for row in TRAIN]
    model = tiny_model(place, "regression")
    write(place / "data" / "en.test.jsonl", rows)
    said = json.loads(evaluate(place, "--json", "-", model=model.name).stdout)
    [english] = said["languages"]
    assert (english["value"], english["low"], english["high"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_a_language_without_rows_is_named(place: Path, method: str) -> None:
    """An empty file among others, and a language that nobody has rows of."""
    refused(
        train(place, "--train-language", "en", "--train-language", "sw", method=method),
        "no rows for train in sw",
    )
    (place / "data" / "de.train.jsonl").write_text("\n")
    refused(train(place, method=method), "de.train.jsonl: no rows")
    assert train(place, "--train-language", "en", method=method).exit_code == 0


def test_a_language_without_rows_is_not_scored_as_if_it_were_well(place: Path) -> None:
    refused(evaluate(place, "--language", "en", "--language", "sw"), "no rows for test in sw")
    gate = ("gate", place / "embed", "--data", place / "data", "--first", "--language", "sw")
    refused(xlmr(*gate), "no rows for test in sw")
    (place / "data" / "de.test.jsonl").write_text("")
    refused(evaluate(place), "de.test.jsonl: no rows")


@pytest.mark.parametrize("method", METHODS)
def test_a_label_that_training_never_saw_is_placed(place: Path, method: str) -> None:
    write(place / "data" / "en.dev.jsonl", [*DEV, {"text": "secret", "label": "greeting"}])
    refused(train(place, method=method), "en.dev.jsonl:3: label", "training knows delivery, refund")
    assert not (place / "out").exists()


def test_a_label_that_the_model_cannot_give_is_placed_or_wrong(place: Path) -> None:
    write(place / "data" / "en.test.jsonl", [{"text": "secret", "label": "greeting"}])
    refused(evaluate(place), "en.test.jsonl:1: label", "--unknown-labels wrong")
    done = evaluate(place, "--unknown-labels", "wrong", "--json", "-")
    assert json.loads(done.stdout)["macro"] == 0.0


def test_tags_that_training_never_saw_are_missed_or_refused(place: Path) -> None:
    model = tiny_model(place, "tag")
    write(place / "data" / "en.test.jsonl", [{"tokens": ["secret"], "tags": ["B-GENE"]}])
    refused(evaluate(place, model=model.name), "the model marks none of GENE", "LOC, PER")
    both = {"tokens": ["anna", "secret"], "tags": ["B-PER", "B-GENE"]}
    write(place / "data" / "en.test.jsonl", [both])
    said = json.loads(evaluate(place, "--json", "-", model=model.name).stdout)
    assert said["macro"] < 1.0


LONG_ROWS: dict[str, list[dict[str, Any]]] = {
    "classify": [*TRAIN, {"text": ENDLESS, "label": "delivery"}],
    "tag": [{"text": ENDLESS + "anna", "spans": [
        {"start": len(ENDLESS), "end": len(ENDLESS) + 4, "label": "PER"}
    ]}, {"tokens": ["anna", "lives"], "tags": ["B-PER", "O"]}],
    "answer": [
        {"question": "who", "context": f"{ENDLESS}anna", "answers": [
            {"text": "anna", "start": len(ENDLESS)}
        ]},
        {"question": "where", "context": "in paris", "answers": [{"text": "paris", "start": 3}]},
    ],
    "embed": [{"query": ENDLESS, "positive": "paris"}, {"query": "who", "positive": ENDLESS}],
    "rerank": [
        {"query": "where", "positive": ENDLESS, "negatives": ["anna"]},
        {"query": "who", "positive": "anna", "negatives": [ENDLESS]},
    ],
    "fill": [{"text": ENDLESS}, {"text": "hello world where is my parcel"}],
}  # fmt: skip
# What becomes of what a model does not read: cut and counted, or read in windows.
IN_WINDOWS = ("tag", "answer", "fill")


@pytest.mark.parametrize("task", list(LONG_ROWS))
def test_a_text_of_a_hundred_thousand_characters_is_learned_from_and_scored(
    place: Path, task: str
) -> None:
    rows = LONG_ROWS[task]
    for split, some in (("train", rows), ("dev", rows[1:2]), ("test", rows)):
        write(place / "data" / f"en.{split}.jsonl", some)
    tiny_model(place, "embed", num_hidden_layers=1)
    settings = ("data.near_duplicates=keep", "optimizer.head=random", "run.batch_tokens=20000")
    sets = [word for setting in settings for word in ("--set", setting)]
    done = train(place, *sets, "--json", task=task)
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert (json.loads(done.stdout)["truncated"] > 0) is (task not in IN_WINDOWS)
    scored = evaluate(place, "--json", "-", model="out")
    assert scored.exit_code == 0, scored.output + repr(scored.exception)
    said = json.loads(scored.stdout)
    assert said["n"] == len(rows)
    assert 0 <= said["macro"] <= 1


def test_an_endless_text_is_cut_and_counted_by_the_few_shot_head(place: Path) -> None:
    write(place / "data" / "en.train.jsonl", LONG_ROWS["classify"])
    done = train(place, method="head")
    assert done.exit_code == 0, done.output
    assert "1 rows were longer than the model reads and were cut" in done.output
