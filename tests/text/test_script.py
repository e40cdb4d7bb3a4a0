"""Keys and letters say which script a language is written in."""

from __future__ import annotations

import pytest

from xlmr.text.script import is_english, script_of_key, script_of_texts


@pytest.mark.parametrize(
    ("key", "script"),
    [
        ("arb_Arab", "Arab"),
        ("zh-Hant", "Hant"),
        ("zh-Hant-TW", "Hant"),
        ("en", None),
        ("pt-BR", None),
        ("en-GB", None),
    ],
)
def test_a_key_may_say_it(key: str, script: str | None) -> None:
    assert script_of_key(key) == script


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Where is my parcel?", "Latn"),
        ("Где моя посылка? (DHL)", "Cyrl"),
        ("أين الطرد", "Arab"),
        ("मेरा पार्सल", "Deva"),
        ("包裹在哪里", "Hani"),
        ("荷物はどこですか", "Jpan"),
        ("カメラ", "Jpan"),
        ("소포는 어디에", "Hang"),
        ("พัสดุ", "Thai"),
        ("πού είναι", "Grek"),
        ("12 + 3 !?", "Zzzz"),
        ("", "Zzzz"),
    ],
)
def test_letters_say_it_too(text: str, script: str) -> None:
    assert script_of_texts([text]) == script


def test_most_letters_decide_and_a_stray_kana_does_not() -> None:
    assert script_of_texts(["да", "hello world", "нет"]) == "Latn"
    assert script_of_texts(["包裹在哪里" * 20 + "の"]) == "Hani"


def test_very_long_texts_are_not_read_to_the_end() -> None:
    assert script_of_texts(["a" * 20_000, "я" * 1_000_000]) == "Latn"


@pytest.mark.parametrize("key", ["en", "eng", "eng_Latn", "en-GB", "EN"])
def test_english_has_many_keys(key: str) -> None:
    assert is_english(key)


@pytest.mark.parametrize("key", ["de", "enm", "sw", "und"])
def test_others_are_not_english(key: str) -> None:
    assert not is_english(key)
