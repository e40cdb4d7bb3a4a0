"""Disturbed texts stay the same for the same seed, stay readable, and are really disturbed."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.evaluation.slices import (
    by_length,
    disturb,
    harder,
    switch_languages,
    transliterate,
    with_typos,
)
from xlmr.evaluation.suites import AnswerRow, MultiLabelRow, PairRow, Row, Table

TEXTS = [
    "Where is my parcel?",
    "Где моя посылка?",
    "πού είναι το δέμα μου",
    "أين الطرد الخاص بي",
    "איפה החבילה שלי",
    "我的包裹在哪里",
    "พัสดุของฉันอยู่ที่ไหน",
    "मेरा पार्सल कहाँ है",
]


def row(text: str) -> Row:
    return Row(text=text, label="a", language="en", line=1)


@pytest.mark.parametrize("text", TEXTS)
def test_every_script_can_be_mistyped(text: str) -> None:
    found = {with_typos(text, seed=seed) for seed in range(20)}
    assert text not in found
    assert len(found) > 5  # chance matters
    for typed in found:
        assert abs(len(typed) - len(text)) <= 4  # a letter with its marks
        scripts = {unicodedata.name(c).split()[0] for c in typed if c.isalpha()}
        assert scripts == {unicodedata.name(c).split()[0] for c in text if c.isalpha()}


@given(st.text(max_size=30), st.integers(0, 9), st.sampled_from([0.01, 0.1, 1.0]))
def test_typos_of_anything(text: str, seed: int, rate: float) -> None:
    typed = with_typos(text, seed=seed, rate=rate)
    assert typed == with_typos(text, seed=seed, rate=rate)
    letters = [
        c for i, c in enumerate(text) if c.isalpha() or (i and unicodedata.category(c)[0] == "M")
    ]
    if sum(c.isalpha() for c in letters) >= 2:
        assert typed.strip()
    else:
        assert typed == text


@given(st.text("ab", min_size=2, max_size=6), st.integers(0, 50))
def test_two_letters_are_always_disturbed(text: str, seed: int) -> None:
    assert with_typos(text, seed=seed, rate=1.0) != text


def test_a_higher_rate_hits_more() -> None:
    text = "the quick brown fox jumps over the lazy dog " * 5

    def kept(rate: float) -> int:
        return len(set(text.split()) & set(with_typos(text, rate=rate).split()))

    assert kept(0.01) > kept(0.5)


def test_latin_letters_for_everything() -> None:
    # Golden: the table of anyascii 0.3.3.
    assert transliterate("Где моя посылка?") == "Gde moya posylka?"
    assert all(transliterate(text).isascii() for text in TEXTS)
    assert transliterate(TEXTS[0]) == TEXTS[0]


def test_only_disturbed_rows_are_kept() -> None:
    rows = [row("parcel"), row("посылка"), row("12")]
    assert [found.text for found in disturb(rows, "transliterated")] == ["posylka"]
    typos = disturb(rows, "typos", seed=3)
    assert [found.line for found in typos] == [1, 1]
    assert disturb(rows[1:], "typos", seed=3) == typos[1:]  # whatever stands beside it


def test_buckets_of_length() -> None:
    found = by_length("abcde", [1, 16, 17, 256, 257])
    assert found == {
        "to 16": ("a", "b"),
        "17 to 64": ("c",),
        "65 to 256": ("d",),
        "from 257": ("e",),
    }
    with pytest.raises(ValueError, match="5 items, 1 lengths"):
        by_length("abcde", [1])
    with pytest.raises(ValueError, match="do not rise"):
        by_length("a", [1], most=[5, 5])


def table(*rows: Any) -> Table[Any]:
    return Table(Path("x.jsonl"), "0" * 64, rows, 0, 0)


def mixed(*rows: Any, seed: int = 0) -> dict[str, str]:
    [found] = switch_languages([table(*rows)], seed=seed)
    return {row.language: row.text for row in found.rows}


def test_parallel_texts_exchange_half_of_their_words() -> None:
    english = Row("where is my parcel", "a", "en", 1, "7")
    german = Row("wo ist mein paket denn nur", "b", "de", 1, "7")
    found = mixed(english, german, Row("something else", "b", "en", 2, "8"))
    words = found["de"].split()
    assert len(words) == 6
    assert sum(word in english.text.split() for word in words) == 3
    kept = [i for i, word in enumerate(words) if word in german.text.split()]
    assert [words[i] for i in kept] == [german.text.split()[i] for i in kept]
    # English has German for a partner, as there is nothing else.
    assert set(found["en"].split()) & set(german.text.split())


def test_without_ids_halves_of_rows_with_the_same_answer_are_joined() -> None:
    rows = [
        Row("where is my parcel", "delivery", "en", 1),
        Row("refund the money please", "refund", "en", 2),
        Row("wo ist mein paket", "delivery", "de", 1),
    ]
    assert mixed(*rows)["de"] == "wo ist my parcel"
    assert mixed(rows[1], rows[2]) == {}  # nobody has the same label


def test_languages_mix_with_english_and_only_english_with_any() -> None:
    rows = [Row(f"{name} {name} {name}", "a", name, 1) for name in ("de", "en", "sw", "tr")]
    found = mixed(*rows)
    assert all("en" in found[name].split() for name in ("de", "sw", "tr"))
    drawn = {mixed(*rows, seed=seed)["en"] for seed in range(12)}
    assert len(drawn) == 3


def test_scripts_without_blanks_are_mixed_in_pieces() -> None:
    rows = [
        Row("我的包裹在哪里我已经等了很久很久了", "a", "zh", 1, "1"),
        Row("where is my parcel", "a", "en", 1, "1"),
    ]
    text = mixed(*rows)["zh"]
    assert any(word.isascii() for word in text.split())
    assert any(not word.isascii() for word in text.split())


def test_one_language_alone_is_never_mixed() -> None:
    assert mixed(Row("a b", "a", "en", 1), Row("c d", "a", "en", 2)) == {}


def test_every_kind_of_harder_rows_keeps_answer_and_place() -> None:
    rows = [
        MultiLabelRow("где посылка", ("angry",), "ru", 4),
        MultiLabelRow("where is it", ("angry",), "en", 5),
    ]
    found = harder([table(*rows)], seed=2)
    assert set(found) == {"typos", "transliterated", "code-switched"}
    for files in found.values():
        for row in files[0].rows:
            assert (row.labels, row.line) in {(("angry",), 4), (("angry",), 5)}
    assert [row.language for row in found["transliterated"][0].rows] == ["ru"]


def test_both_texts_of_a_pair_are_disturbed_and_pairs_are_not_mixed() -> None:
    pair = PairRow("where is it", "it is lost", "entailment", "en", 1)
    found = harder([table(pair, replace(pair, language="de"))])
    assert set(found) == {"typos"}
    typed = found["typos"][0].rows[0]
    assert typed.first != pair.first
    assert typed.second != pair.second


def test_answers_that_stand_in_the_text_are_left_alone() -> None:
    assert harder([table(AnswerRow("who", "anna lives here", (), "", "en", 1))]) == {}
