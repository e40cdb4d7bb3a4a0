"""Texts are found by language in files of any task, and what models are scored on is left alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from xlmr.errors import DataError
from xlmr.training.texts import Item, draw, read_texts, split_off


def write(path: Path, *rows: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows))


def said(place: Path, *languages: str) -> list[tuple[str, ...]]:
    return [item.texts for item in read_texts([place], languages).items]


def test_names_of_a_language_mean_the_same(tmp_path: Path) -> None:
    write(tmp_path / "a" / "eng_Latn.train.jsonl", {"text": "one"})
    write(tmp_path / "b" / "en.train.jsonl", {"text": "two"}, {"text": "one"})
    write(tmp_path / "b" / "cmn.all.jsonl", {"text": "三"})
    write(tmp_path / "b" / "fr.train.jsonl", {"text": "quatre"})
    texts = read_texts([tmp_path], ["en", "zho"])
    assert [(i.texts, i.language) for i in texts.items] == [
        (("one",), "en"),
        (("三",), "zh"),
        (("two",), "en"),
    ]
    assert texts.languages == ("en", "zh")
    assert [entry["file"] for entry in texts.lineage()] == [
        "eng_Latn.train.jsonl",
        "cmn.all.jsonl",
        "en.train.jsonl",
    ]


@pytest.mark.parametrize("split", ["dev", "test", "validation"])
def test_what_models_are_scored_on_is_not_read(tmp_path: Path, split: str) -> None:
    write(tmp_path / "en.train.jsonl", {"text": "learned"})
    write(tmp_path / f"en.{split}.jsonl", {"text": "scored"})
    assert said(tmp_path) == [("learned",)]


def test_rows_of_every_task_hold_texts(tmp_path: Path) -> None:
    write(
        tmp_path / "de.train.jsonl",
        {"premise": "p", "hypothesis": "h", "label": "neutral"},
        {"question": "q", "context": "c", "answers": []},
        {"question": "alone", "answer": "a"},
        {"query": "k", "positive": "yes", "negatives": ["no"]},
        {"tokens": ["two", "words"], "tags": ["O", "O"]},
        {"en": "english", "text": "deutsch"},
        {"label": "nothing to read", "text": " "},
    )
    texts = read_texts([tmp_path], [])
    assert [(item.texts, item.language) for item in texts.items] == [
        (("p", "h"), "de"),
        (("q", "c"), "de"),
        (("alone",), "de"),
        (("a",), "de"),
        (("k", "yes"), "de"),
        (("k", "no"), "de"),
        (("two words",), "de"),
        (("deutsch",), "de"),
        (("english",), "en"),
    ]
    singles = [item.texts for item in texts.singles()]
    assert ("p",) in singles
    assert singles.count(("k",)) == 1


def test_a_file_that_names_no_language_has_the_only_one_asked_for(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("eins\n\nzwei\n")
    assert said(tmp_path / "corpus.txt", "de") == [("eins",), ("zwei",)]
    with pytest.raises(DataError, match=r"corpus.txt:1: language: missing"):
        read_texts([tmp_path / "corpus.txt"], [])


def test_a_language_without_texts_is_named_with_those_there_are(tmp_path: Path) -> None:
    write(tmp_path / "en.train.jsonl", {"text": "one"})
    write(tmp_path / "deu.train.jsonl", {"text": "eins"})
    with pytest.raises(DataError, match="no texts in xx, fr") as caught:
        read_texts([tmp_path], ["en", "xx", "fra"])
    assert "there is de, en" in caught.value.hint


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read_texts([tmp_path / "nowhere"], ["en"])
    with pytest.raises(DataError, match="no texts"):
        read_texts([tmp_path], [])


def items(**counts: int) -> list[Item]:
    return [
        Item((f"{language} {i}",), language, i) for language, n in counts.items() for i in range(n)
    ]


def test_a_share_of_each_language_is_kept_apart() -> None:
    everything = items(en=100, de=3, fr=1)
    rest, apart = split_off(everything, share=0.1, most=5, seed=0)
    assert Counter(item.language for item in apart) == {"en": 5, "de": 1}
    assert sorted(rest + apart, key=everything.index) == everything
    assert not set(rest) & set(apart)
    assert split_off(everything, share=0.1, most=5, seed=0)[1] == apart
    assert split_off(everything, share=0.1, most=5, seed=1)[1] != apart


def test_languages_are_drawn_evenly_as_far_as_they_reach() -> None:
    drawn = draw(items(en=100, de=50, fr=4), most=44, seed=3)
    assert Counter(item.language for item in drawn) == {"en": 20, "de": 20, "fr": 4}
    assert draw(items(en=3), most=3, seed=0) == items(en=3)
