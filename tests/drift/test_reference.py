from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from xlmr.drift.bets import bets_within
from xlmr.drift.reference import REFERENCE_FILE, freeze, read_reference, write_reference
from xlmr.drift.signals import Sight
from xlmr.errors import DataError


def sight(confidence: float, label: str = "ham") -> Sight:
    return Sight(20, 80, 0, False, label, confidence, 0.3, False)


ROWS = [("de", sight(0.91), True), ("de", sight(0.92), False), ("sw", sight(0.55), None)]
REFERENCE = freeze(ROWS, task="classify", labels=("spam", "ham"), mix={"de": 70, "sw": 30})


def test_it_holds_counts_and_how_right_answers_were() -> None:
    german, swahili = REFERENCE.languages["de"], REFERENCE.languages["sw"]
    assert german.sketch.rows == sum(german.judged.rows) == 2
    assert (sum(german.judged.right), sum(german.judged.millionths)) == (1, 1_830_000)
    assert (swahili.sketch.rows, sum(swahili.judged.rows)) == (1, 0)


def test_written_and_read_back_it_is_the_same(tmp_path: Path) -> None:
    write_reference(REFERENCE, tmp_path)
    read = read_reference(tmp_path)
    assert read == REFERENCE
    assert read is not None
    assert read.digest == REFERENCE.digest
    assert [path.name for path in tmp_path.iterdir()] == [REFERENCE_FILE]


def test_a_directory_may_have_none(tmp_path: Path) -> None:
    assert read_reference(tmp_path) is None


def test_its_digest_is_that_of_its_content() -> None:
    again = freeze(ROWS[::-1], task="classify", labels=("spam", "ham"), mix={"sw": 30, "de": 70})
    other = freeze(ROWS[1:], task="classify", labels=("spam", "ham"), mix={"de": 70, "sw": 30})
    assert again.digest == REFERENCE.digest != other.digest


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 2),
        (("task",), "tag"),
        (("mix", "de"), 71),
        (("languages", "de", "sketch", "rows"), 3),
        (("languages", "de", "judged", "right"), [9] * 26),
        (("languages", "de", "judged", "rows"), []),
        (("languages",), None),
    ],
)
def test_an_altered_file_is_refused(tmp_path: Path, path: tuple[str, ...], value: object) -> None:
    plain = REFERENCE.to_json()
    place = plain
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    (tmp_path / REFERENCE_FILE).write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(DataError, match=r"drift-reference\.json|signals"):
        read_reference(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000])
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / REFERENCE_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="drift-reference"):
        read_reference(tmp_path)


def test_a_disk_that_is_full_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_reference(REFERENCE, tmp_path)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_reference(freeze(ROWS[1:], task="classify"), tmp_path)
    assert read_reference(tmp_path) == REFERENCE
    assert [path.name for path in tmp_path.iterdir()] == [REFERENCE_FILE]


def test_of_very_many_labels_the_frequent_are_told_apart() -> None:
    labels = [f"intent{place}" for place in range(100)]
    rows = [("de", sight(0.9, label), True) for label in labels[30:]]
    found = freeze(rows, task="classify", labels=labels)
    assert found.labels == tuple(labels[30:93])
    assert found.languages["de"].sketch.bins["label"][-1] == 7


def test_a_reference_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="needs rows"):
        freeze([], task="classify")


def test_a_reference_from_before_there_were_as_many_signals_is_what_it_was(tmp_path: Path) -> None:
    before = {"rows", "right", "millionths"}
    old = REFERENCE.to_json()
    for expected in old["languages"].values():
        assert "bytes_per_character" not in expected["sketch"]["bins"]
        assert expected["judged"].keys() == before
    (tmp_path / REFERENCE_FILE).write_text(json.dumps(old), encoding="utf-8")
    read = read_reference(tmp_path)
    assert read is not None
    assert read.digest == REFERENCE.digest
    sketch = read.languages["de"].sketch
    assert "bytes_per_character" not in bets_within(sketch, read.labels).signals


def test_which_labels_are_taken_for_which_is_kept_where_it_is_known(tmp_path: Path) -> None:
    truths = ["ham"] * len(ROWS)
    made = freeze(ROWS, task="classify", labels=("spam", "ham"), truths=truths)
    write_reference(made, tmp_path)
    assert read_reference(tmp_path) == made
    for name, expected in made.languages.items():
        said = expected.sketch.bins["label"]
        assert [row[1] for row in expected.judged.confused] == said, name
        assert sum(map(sum, expected.judged.confused)) == sum(said)
    many = [f"intent{place}" for place in range(25)]
    unknown = freeze(ROWS, task="classify", labels=many, truths=truths)
    assert all(not expected.judged.confused for expected in unknown.languages.values())


@pytest.mark.parametrize("confused", [[[1, 2], [3, 4]], [[1, 0, 0], [0, 1, 0], [0, 0]], [[-1]]])
def test_confusion_of_other_labels_is_refused(tmp_path: Path, confused: list[list[int]]) -> None:
    made = freeze(ROWS, task="classify", labels=("spam", "ham"))
    name = next(iter(made.languages))
    of = made.languages[name]
    wrong = replace(of, judged=replace(of.judged, confused=confused))
    (tmp_path / REFERENCE_FILE).write_text(
        json.dumps(replace(made, languages={name: wrong}).to_json()), encoding="utf-8"
    )
    with pytest.raises(DataError, match="drift-reference"):
        read_reference(tmp_path)
