"""Disturbed texts stay the same for the same seed, stay readable, and are really disturbed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.evaluation.slices import by_length, disturb, transliterate, with_typos
from xlmr.evaluation.suites import Row

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
