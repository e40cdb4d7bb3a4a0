"""A run's data: two labels at least, and nothing of dev in train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xlmr.errors import DataError
from xlmr.evaluation.suites import CLASSIFY
from xlmr.training.data import Examples
from xlmr.training.data import read_examples as read
from xlmr.training.recipe import Data

TRAIN = [("Where is it?", "delivery"), ("Money back!", "refund"), ("Never came.", "delivery")]
DEV = [("Lost parcel", "delivery")]


def read_examples(train: Path, dev: Path | None = None, **said: Any) -> Examples:
    policy = said.pop("near_duplicates", "stop")
    dev_name = "" if dev is None else str(dev)
    return read(Data(train=str(train), dev=dev_name, near_duplicates=policy, **said), CLASSIFY)


def write(path: Path, rows: list[tuple[str, str]], language: str = "en") -> Path:
    lines = [json.dumps({"text": t, "label": la, "language": language}) for t, la in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_labels_are_sorted_and_classes_are_their_places(tmp_path: Path) -> None:
    examples = read_examples(write(tmp_path / "t.jsonl", TRAIN), write(tmp_path / "d.jsonl", DEV))
    assert examples.labels == ("delivery", "refund")
    assert examples.classes(examples.train) == [0, 1, 0]
    assert examples.classes(examples.dev) == [0]


def test_the_lineage_names_files_by_digest_and_never_by_place(tmp_path: Path) -> None:
    examples = read_examples(write(tmp_path / "t.jsonl", TRAIN), write(tmp_path / "d.jsonl", DEV))
    lineage = examples.lineage()
    assert [(f["split"], f["file"], f["rows"]) for f in lineage] == [
        ("train", "t.jsonl", 3),
        ("dev", "d.jsonl", 1),
    ]
    assert all(len(f["sha256"]) == 64 for f in lineage)
    assert str(tmp_path) not in json.dumps(lineage)


def test_one_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="every row has the same label"):
        _ = read_examples(write(tmp_path / "t.jsonl", TRAIN[::2])).labels


def test_a_dev_label_unseen_in_training_is_refused(tmp_path: Path) -> None:
    dev = write(tmp_path / "d.jsonl", [*DEV, ("Hello", "greeting")])
    with pytest.raises(DataError, match=r"d\.jsonl:2: label: none of the training rows has it"):
        _ = read_examples(write(tmp_path / "t.jsonl", TRAIN), dev).labels


def test_rows_with_unseen_labels_are_left_out_and_counted_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    dev = write(tmp_path / "d.jsonl", [*DEV, ("Hello", "greeting"), ("Bye", "greeting")])
    left = read_examples(write(tmp_path / "t.jsonl", TRAIN), dev, unknown_labels="drop")
    assert left.unknown_labels == {"en": 2}
    assert len(left.dev) == len(DEV) == len(left.held_out[0].rows)
    assert "greeting" not in left.labels


@pytest.mark.parametrize("text", ["Never came.", "NEVER  came", "Ｎｅｖｅｒ came!"])
def test_a_sentence_in_both_is_refused_without_quoting_it(tmp_path: Path, text: str) -> None:
    dev = write(tmp_path / "d.jsonl", [*DEV, (text, "delivery")])
    with pytest.raises(DataError, match=r"d\.jsonl:2: text: also stands in .*t\.jsonl:3") as caught:
        read_examples(write(tmp_path / "t.jsonl", TRAIN), dev)
    assert "never" not in str(caught.value).casefold()


def test_rows_near_to_a_dev_row_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    train = write(tmp_path / "t.jsonl", [*TRAIN, ("LOST parcel", "refund")])
    dev = write(tmp_path / "d.jsonl", DEV)
    left = read_examples(train, dev, near_duplicates="drop")
    assert ([row.line for row in left.train], left.near_duplicates) == ([1, 2, 3], {"en": 1})
    assert left.lineage()[0]["rows"] == 3
    kept = read_examples(train, dev, near_duplicates="keep")
    assert ([row.line for row in kept.train], kept.near_duplicates) == ([1, 2, 3, 4], {"en": 1})


def test_texts_without_letters_are_not_all_the_same(tmp_path: Path) -> None:
    train = write(tmp_path / "t.jsonl", [*TRAIN, ("😀", "refund")])
    assert read_examples(train, write(tmp_path / "d.jsonl", [("???", "refund")])).dev


def test_a_folder_brings_its_own_dev_files_of_the_languages_trained_on(tmp_path: Path) -> None:
    write(tmp_path / "en.train.jsonl", TRAIN)
    write(tmp_path / "en.dev.jsonl", DEV)
    write(tmp_path / "de.train.jsonl", [("Wo?", "delivery")], "de")
    write(tmp_path / "fr.dev.jsonl", [("Où ?", "delivery")], "fr")
    everything = read_examples(tmp_path)
    assert {row.language for row in everything.train} == {"de", "en"}
    assert [file.path.name for file in everything.dev_files] == ["en.dev.jsonl"]
    english = read_examples(tmp_path, languages=("en",))
    assert {row.language for row in english.train} == {"en"}
    french = read_examples(tmp_path, tmp_path / "fr.dev.jsonl", languages=("en",))
    assert [row.language for row in french.dev] == ["fr"]


def test_without_dev_there_is_none(tmp_path: Path) -> None:
    assert read_examples(write(tmp_path / "t.jsonl", TRAIN)).dev == ()
