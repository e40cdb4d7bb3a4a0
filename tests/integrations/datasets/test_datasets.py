"""Data sets saved by Hugging Face's `datasets` are read like any other file."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from xlmr.errors import DataError
from xlmr.evaluation.suites import ANSWER, CLASSIFY, TAG, read_file, read_split
from xlmr.training.data import read_examples
from xlmr.training.recipe import Data

LABELS = datasets.ClassLabel(names=["delivery", "refund"])
TEXTS = datasets.Features(
    {"sentence": datasets.Value("string"), "intent": LABELS, "language": datasets.Value("string")}
)
NAMED = CLASSIFY.with_columns(text="sentence", label="intent")


def texts(*rows: tuple[str, int, str]) -> datasets.Dataset:
    sentence, intent, language = (list(column) for column in zip(*rows, strict=True))
    columns = {"sentence": sentence, "intent": intent, "language": language}
    return datasets.Dataset.from_dict(columns, features=TEXTS)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    splits = {
        "train": texts(("where is it", 0, "en"), ("money back", 1, "en"), ("где", 0, "ru")),
        "validation": texts(("the parcel", 0, "en"), ("деньги", 1, "ru")),
    }
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "all"))
    return tmp_path / "all"


def test_classes_become_names_and_splits_are_chosen(saved: Path) -> None:
    (file,) = read_split(saved, "train", NAMED)
    assert [(row.text, row.label, row.language, row.line) for row in file.rows] == [
        ("where is it", "delivery", "en", 1),
        ("money back", "refund", "en", 2),
        ("где", "delivery", "ru", 3),
    ]
    (dev,) = read_split(saved, "dev", NAMED, languages=["ru"])
    assert [row.text for row in dev.rows] == ["деньги"]
    with pytest.raises(DataError, match="no split test") as caught:
        read_split(saved, "test", NAMED)
    assert caught.value.hint == "there are train, validation"


def test_a_run_finds_both_splits(saved: Path) -> None:
    columns = {"text": "sentence", "label": "intent"}
    examples = read_examples(Data(train=str(saved), columns=columns), CLASSIFY)
    assert (len(examples.train), len(examples.dev)) == (3, 2)
    assert examples.labels == ("delivery", "refund")


def test_a_data_set_without_splits_is_one_file(tmp_path: Path) -> None:
    place = tmp_path / "one"
    texts(("where is it", 0, "en"), ("where is it", 0, "en")).save_to_disk(str(place))
    file = read_file(place, NAMED)
    assert (len(file.rows), file.duplicates) == (1, 1)
    assert read_split(place, "anything", NAMED)[0].sha256 == file.sha256


def test_the_digest_tells_data_sets_apart(tmp_path: Path) -> None:
    digests = set()
    for name, row in {"a": ("x", 0, "en"), "b": ("x", 0, "en"), "c": ("y", 0, "en")}.items():
        texts(row).save_to_disk(str(tmp_path / name))
        digests.add(read_file(tmp_path / name, NAMED).sha256)
    assert len(digests) == 2


def test_tags_are_lists_of_classes(tmp_path: Path) -> None:
    names = ["O", "B-PER", "I-PER"]
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=names)),
            "language": datasets.Value("string"),
        }
    )
    row = {"tokens": [["Anna", "Lind", "lives"]], "ner_tags": [[1, 2, 0]], "language": ["en"]}
    datasets.Dataset.from_dict(row, features=features).save_to_disk(str(tmp_path / "ner"))
    (found,) = read_file(tmp_path / "ner", TAG.with_columns(tags="ner_tags")).rows
    assert [(e.text, e.label) for e in found.entities] == [("Anna Lind", "PER")]


def test_answers_are_read_as_squad_has_them(tmp_path: Path) -> None:
    row = {
        "question": ["who"],
        "context": ["it was Anna"],
        "answers": [{"text": ["Anna"], "answer_start": [7]}],
        "language": ["en"],
    }
    datasets.Dataset.from_dict(row).save_to_disk(str(tmp_path / "qa"))
    (found,) = read_file(tmp_path / "qa", ANSWER).rows
    assert [(a.text, a.start) for a in found.answers] == [("Anna", 7)]


def test_a_label_that_is_not_given_is_a_fault_with_its_place(tmp_path: Path) -> None:
    place = tmp_path / "unlabelled"
    texts(("x", 0, "en"), ("y", -1, "en")).save_to_disk(str(place))
    with pytest.raises(DataError, match=r"unlabelled:2: intent: expected text, got null"):
        read_file(place, NAMED)


@pytest.mark.parametrize("broken", ["data-00000-of-00001.arrow", "state.json"])
def test_a_damaged_data_set_is_refused_without_quoting_it(tmp_path: Path, broken: str) -> None:
    place = tmp_path / "damaged"
    texts(("secret words", 0, "en")).save_to_disk(str(place))
    (place / broken).write_bytes((place / broken).read_bytes()[:40])
    with pytest.raises(DataError, match="damaged") as caught:
        read_file(place, NAMED)
    assert "secret" not in str(caught.value)


def test_several_splits_cannot_be_read_as_one_file(saved: Path) -> None:
    with pytest.raises(DataError, match="holds several splits") as caught:
        read_file(saved, NAMED)
    assert str(saved / "validation") in caught.value.hint
