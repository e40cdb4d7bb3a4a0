"""Answers compared as SQuAD and MLQA compare them; cases made by hand from their stated rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.evaluation.metrics.answers import answer_f1, answer_words, exact_match

LANGUAGES = [None, "ar", "de", "en", "es", "hi", "vi", "zh", "ja", "th", "sw", "zh-Hant"]


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        ("The  Eiffel-Tower, in a city!", None, ["eiffeltower", "in", "city"]),
        ("«The» Tower", None, ["«", "»", "tower"]),  # SQuAD's punctuation is ASCII alone
        ("«The» Tower", "en", ["tower"]),
        ("The theory of an anthem", "en", ["theory", "of", "anthem"]),
        ("Das Haus der Kunst", "de", ["haus", "kunst"]),
        ("Das Haus", "en", ["das", "haus"]),
        ("¿La casa de las flores?", "es", ["casa", "de", "flores"]),
        ("những ngôi nhà", "vi", ["ngôi", "nhà"]),
        ("في القاهرة", "ar", ["في", "قاهرة"]),
        ("नई दिल्ली।", "hi", ["नई", "दिल्ली"]),
        ("北京，2008年", "zh", ["北", "京", "2008", "年"]),
        ("北京 iPhone 4", "zh-Hant", ["北", "京", "iphone", "4"]),
        ("東京タワー。", "ja", ["東", "京", "タ", "ワ", "ー"]),
        ("น้ำใจ", "th", ["น้", "ำ", "ใ", "จ"]),
        ("the house", "sw", ["the", "house"]),
    ],
)
def test_what_is_compared(text: str, language: str | None, words: list[str]) -> None:
    assert list(answer_words(text, language)) == words


@pytest.mark.parametrize(
    ("answer", "golds", "language", "exact", "f1"),
    [
        ("the Denver Broncos", ["Denver Broncos"], None, 1.0, 1.0),
        ("Broncos of Denver", ["Denver Broncos", "x"], None, 0.0, 0.8),
        ("a a b", ["b b a"], "sw", 0.0, 2 / 3),  # words count as often as they stand
        ("", [], None, 1.0, 1.0),
        ("", [""], "zh", 1.0, 1.0),
        ("something", [], None, 0.0, 0.0),
        ("", ["something"], None, 0.0, 0.0),
        ("北京市", ["北京"], "zh", 0.0, 0.8),
        ("北京市", ["北京"], None, 0.0, 0.0),  # what SQuAD's rules make of Chinese
    ],
)
def test_scores(
    answer: str, golds: list[str], language: str | None, exact: float, f1: float
) -> None:
    assert exact_match(answer, golds, language) == exact
    assert answer_f1(answer, golds, language) == pytest.approx(f1)


texts = st.text(alphabet="aA theßd.,¿ 北京タนُ้élos\t", max_size=12)


@given(texts, st.lists(texts, max_size=3), st.sampled_from(LANGUAGES))
def test_an_exact_match_has_full_f1(answer: str, golds: list[str], language: str | None) -> None:
    exact, f1 = exact_match(answer, golds, language), answer_f1(answer, golds, language)
    assert 0.0 <= exact <= f1 <= 1.0
    assert exact_match(answer, [answer], language) == answer_f1(answer, [answer], language) == 1.0
    assert answer_f1(answer, [*golds, answer], language) == 1.0
