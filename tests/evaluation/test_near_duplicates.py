"""Rows that nearly stand in two splits are found, counted, and dealt with as told."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.errors import DataError
from xlmr.evaluation.minhash import jaccard, pieces
from xlmr.evaluation.near_duplicates import (
    THRESHOLD,
    Near,
    find_near,
    find_pairs,
    same_sentence,
    separate,
)
from xlmr.evaluation.suites import INFER, PairRow, Row, Table, read_file

LONG = "The parcel that I ordered three weeks ago has still not arrived at my house"


def table(tmp_path: Path, name: str, *texts: str) -> tuple[Table[Row], ...]:
    path = tmp_path / name
    rows = [json.dumps({"text": text, "label": "x"}) for text in texts]
    path.write_text("\n".join(rows), encoding="utf-8")
    return (read_file(path),)


def test_only_case_punctuation_and_blanks_apart_is_the_same() -> None:
    found = find_near({"train": ["other", "so,  WHAT?"], "dev": ["Ｓｏ what"]})
    assert found == [Near("train", 1, "dev", 0, 1.0)]


def test_a_word_more_in_a_long_text_is_near_and_half_of_it_is_not() -> None:
    (near,) = find_near({"train": [LONG, LONG[:40]], "test": [LONG + " yet"]})
    assert (near.index, near.other_index) == (0, 0)
    expected = jaccard(pieces(same_sentence(LONG)), pieces(same_sentence(LONG + " yet")))
    assert near.similarity == expected >= THRESHOLD


def test_texts_without_letters_are_near_to_nothing() -> None:
    assert find_near({"train": ["😀", "", "?!"], "dev": ["...", "", "😀"]}) == []


def test_short_texts_with_one_word_changed_are_not_near() -> None:
    assert find_near({"train": ["Turn on the light"], "dev": ["Turn off the light"]}) == []


def test_each_row_is_found_once_and_the_last_split_never() -> None:
    found = find_near(
        {"train": ["a b", "a b.", "c d"], "dev": ["A b", "e f"], "test": ["a B", "c d"]}
    )
    assert [(n.split, n.index, n.other_split, n.other_index) for n in found] == [
        ("train", 0, "test", 0),
        ("train", 1, "test", 0),
        ("train", 2, "test", 1),
        ("dev", 0, "test", 0),
    ]


def test_nothing_is_found_in_nothing() -> None:
    assert find_near({}) == find_near({"train": [], "dev": []}) == find_near({"train": ["a"]}) == []


def test_what_is_found_is_what_comparing_all_pairs_finds() -> None:
    random = np.random.default_rng(3)
    words = ["".join(random.choice(list("abcdefgh"), 4)) for _ in range(40)]
    train = [" ".join(random.choice(words, 14)) for _ in range(120)]
    test = [
        " ".join(random.choice(words) if random.random() < rate else word for word in text.split())
        for text, rate in zip(train, random.choice([0.01, 0.05, 0.1, 0.2], 120), strict=True)
    ]
    sets = [pieces(text) for text in train], [pieces(text) for text in test]
    truth = {i for i, a in enumerate(sets[0]) if any(jaccard(a, b) >= THRESHOLD for b in sets[1])}
    assert 20 < len(truth) < 100
    assert {near.index for near in find_near({"train": train, "test": test})} == truth


def test_drop_leaves_out_the_rows_of_the_earlier_split_and_counts_them(tmp_path: Path) -> None:
    splits = {
        "train": table(tmp_path, "en.train.jsonl", "One", "two", LONG)
        + table(tmp_path, "de.train.jsonl", "drei", "ONE!"),
        "dev": table(tmp_path, "en.dev.jsonl", "one", "four"),
    }
    done = separate(splits, policy="drop")
    assert [[row.text for row in file.rows] for file in done.splits["train"]] == [
        ["two", LONG],
        ["drei"],
    ]
    assert done.splits["dev"] == splits["dev"]
    assert done.counts == {("en", "train", "dev"): 1, ("de", "train", "dev"): 1}
    kept = separate(splits, policy="keep")
    assert (kept.splits, kept.counts) == (splits, done.counts)


def test_stop_names_both_places_and_quotes_neither(tmp_path: Path) -> None:
    splits = {
        "train": table(tmp_path, "en.train.jsonl", "two", LONG),
        "test": table(tmp_path, "en.test.jsonl", LONG + " yet"),
    }
    with pytest.raises(DataError) as caught:
        separate(splits, policy="stop")
    # 71 pieces, and 4 more with the word that was added.
    assert caught.value.message.replace(f"{tmp_path}/", "") == (
        "en.test.jsonl:1: text: also stands in en.train.jsonl:2, or nearly "
        "(similarity 0.95; rows like that: 1)"
    )
    assert separate({"train": splits["train"]}, policy="stop").counts == {}


def test_a_pair_is_near_where_both_texts_are(tmp_path: Path) -> None:
    def pairs(name: str, *hypotheses: str) -> tuple[Table[PairRow], ...]:
        rows = [{"premise": "It rains", "hypothesis": h, "label": "x"} for h in hypotheses]
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return (read_file(tmp_path / name, INFER),)

    splits = {
        "train": pairs("en.train.jsonl", "It is dry", "It is wet here"),
        "test": pairs("en.test.jsonl", "It is dry!"),
    }
    done = separate(splits, policy="drop")
    assert [row.line for row in done.splits["train"][0].rows] == [2]


@given(st.text())
def test_same_sentence_is_settled_after_one_pass(text: str) -> None:
    once = same_sentence(text)
    assert same_sentence(once) == once
    assert all(c.isalnum() or c == " " or unicodedata.category(c)[0] == "M" for c in once)


def test_vowel_signs_tell_words_apart() -> None:
    assert same_sentence("कि") != same_sentence("का")


def test_pairs_within_one_list() -> None:
    said = "please send the refund for my last order to the other bank account"
    texts = [said, "nothing like it, not at all", said + " now", said.upper(), "...", "...", "Ünlü"]
    assert sorted(find_pairs(texts)) == [(0, 2), (0, 3)]
    assert find_pairs([]) == find_pairs(["a"]) == []
