from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.model.heads.tag import TokenLabels, entities, merge_windows
from xlmr.model.heads.words import words

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def tokens(text: str, pieces: str) -> list[tuple[int, int]]:
    """Offsets of pieces separated by | in the text; `·` is a bare space token."""
    offsets, at = [], 0
    for piece in pieces.split("|"):
        if piece == "·":
            offsets.append((at, at))
            continue
        start = text.index(piece, at)
        at = start + len(piece)
        offsets.append((start, at))
    return offsets


def tagged(text: str, pieces: str, labels: str) -> list[tuple[str, str, float]]:
    """Entities as (label, text, score); each piece says its label with probability 0.8."""
    rows = []
    for (start, end), label in zip(tokens(text, pieces), labels.split(), strict=True):
        probabilities_C = np.full(len(LABELS), 0.05, np.float32)
        probabilities_C[LABELS.index(label)] = 0.8
        rows.append(TokenLabels(start, end, probabilities_C))
    found = entities(text, rows, LABELS)
    assert all(text[entity.start : entity.end] == entity.text for entity in found)
    return [(entity.label, entity.text, round(entity.score, 3)) for entity in found]


def shown(text: str, pieces: str) -> list[str]:
    return [text[word.start : word.end] for word in words(text, tokens(text, pieces))]


def test_a_word_takes_the_label_of_its_first_token() -> None:
    found = tagged("Ankara is big", "An|kara|is|big", "B-LOC O O O")
    assert found == [("LOC", "Ankara", 0.8)]


def test_a_label_on_a_later_token_is_not_read() -> None:
    assert tagged("Ankara is big", "An|kara|is|big", "O B-LOC O O") == []


def test_entities_span_words() -> None:
    found = tagged("Anna Maria Sol of New York", "Anna|Maria|Sol|of|New|York",
                   "B-PER I-PER I-PER O B-LOC I-LOC")  # fmt: skip
    assert found == [("PER", "Anna Maria Sol", 0.8), ("LOC", "New York", 0.8)]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("B-PER B-PER", ["Anna", "Maria"]),
        ("I-PER I-PER", ["Anna Maria"]),
        ("B-PER I-LOC", ["Anna", "Maria"]),
        ("O I-PER", ["Maria"]),
        ("B-PER O", ["Anna"]),
        ("O O", []),
    ],
)
def test_bio(labels: str, expected: list[str]) -> None:
    found = tagged("Anna Maria", "Anna|Maria", labels)
    assert [text for _, text, _ in found] == expected


def test_an_interrupted_entity_is_two() -> None:
    found = tagged("Anna and Maria", "Anna|and|Maria", "B-PER O I-PER")
    assert [text for _, text, _ in found] == ["Anna", "Maria"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("S-PER", "S-PER"), ["Anna", "Maria"]),
        (("B-PER", "E-PER"), ["Anna Maria"]),
        (("U-PER", "L-PER"), ["Anna Maria"]),
        (("PER", "PER"), ["Anna Maria"]),
        (("PER", "LOC"), ["Anna", "Maria"]),
    ],
)
def test_other_ways_to_write_labels(names: tuple[str, str], expected: list[str]) -> None:
    rows = [
        TokenLabels(0, 4, np.array([1, 0], np.float32)),
        TokenLabels(5, 10, np.array([0, 1], np.float32)),
    ]
    found = entities("Anna Maria", rows, names)
    assert [entity.text for entity in found] == expected
    assert {entity.label for entity in found} <= {"PER", "LOC"}


def test_the_score_is_the_mean_over_first_tokens() -> None:
    rows = [
        TokenLabels(0, 2, np.array([0, 0.9, 0.1, 0, 0], np.float32)),
        TokenLabels(2, 4, np.array([1, 0, 0, 0, 0], np.float32)),
        TokenLabels(5, 10, np.array([0, 0.3, 0.7, 0, 0], np.float32)),
    ]
    [entity] = entities("Anna Maria", rows, LABELS)
    assert entity.score == pytest.approx(0.8)


def test_punctuation_stands_by_itself() -> None:
    assert shown("“Anna-Lena’s” (Paris),", "“|Anna|-|Lena|’s|”|(|Paris|)|,") == [
        *("“", "Anna-Lena’s", "”", "(", "Paris", "),"),
    ]


def test_a_boundary_inside_a_token_is_none() -> None:
    assert shown("Acme Corp. pays", "Acme|Corp.|pays") == ["Acme", "Corp.", "pays"]
    assert shown("(Paris)", "(P|aris|)") == ["(Paris", ")"]


def test_chinese_entities_are_found_within_a_run() -> None:
    text = "我住在北京市，明天去上海。"
    found = tagged(text, "·|我|住在|北京|市|，|明天|去|上海|。",
                   "O O O B-LOC I-LOC O O O B-LOC O")  # fmt: skip
    assert found == [("LOC", "北京市", 0.8), ("LOC", "上海", 0.8)]


@pytest.mark.parametrize(
    ("text", "pieces", "place"),
    [
        ("東京タワーに行く", "東京|タワー|に|行く", "東京タワー"),
        ("ฉันอยู่กรุงเทพมหานคร", "ฉัน|อยู่|กรุงเทพ|มหานคร", "กรุงเทพมหานคร"),
    ],
)
def test_japanese_and_thai_entities(text: str, pieces: str, place: str) -> None:
    offsets = tokens(text, pieces)
    labels = []
    for start, _ in offsets:
        inside = text.index(place) <= start < text.index(place) + len(place)
        labels.append(("B-LOC" if start == text.index(place) else "I-LOC") if inside else "O")
    assert tagged(text, pieces, " ".join(labels)) == [("LOC", place, 0.8)]


def test_latin_words_within_chinese_are_not_split() -> None:
    assert shown("我用iPhone手机", "我|用|i|Phone|手机") == ["我", "用", "iPhone", "手机"]


def test_a_word_never_ends_before_an_accent() -> None:
    text = "ที่บ้าน"
    assert text[1:3] == "ี่"
    assert shown(text, "ท|ี่|บ้าน") == ["ที่", "บ้าน"]


def test_what_was_not_read_is_no_word() -> None:
    assert shown("one two three", "one|two") == ["one", "two"]
    assert shown("", "·") == []
    assert shown(" \t\n ", "·") == []


WORDS = st.text(st.sampled_from("abc.,-(’) 北京あก\u0301\u3000\n"), max_size=40)


@given(text=WORDS, data=st.data())
def test_words_never_overlap_and_only_part_where_words_may(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))) | {0, len(text)})
    offsets = list(itertools.pairwise(cuts))
    found = words(text, offsets)
    for before, after in itertools.pairwise(found):
        assert before.end <= after.start
    for word in found:
        assert word.start < word.end
        assert re.search(r"\s", text[word.start : word.end]) is None
        for edge in (word.start, word.end):
            around = text[max(edge - 1, 0) : edge + 1]
            inside_latin_word = len(around) == 2 and around.isalpha() and around.isascii()
            assert not inside_latin_word


# --- windows -----------------------------------------------------------------------------------


def row(value: float) -> np.ndarray:
    return np.array([value, 1 - value], np.float32)


def test_a_token_comes_from_the_window_that_saw_most_around_it() -> None:
    special = (0, 0)
    first = [special, (0, 1), (2, 3), (4, 5), special]
    second = [special, (2, 3), (4, 5), (6, 7), special]
    third = [special, (4, 5), (6, 7), (8, 9), special]
    segments = [-1, 0, 0, 0, -1]
    merged = merge_windows(
        [first, second, third],
        [segments] * 3,
        [np.stack([row(0.1 * w + 0.01 * i) for i in range(5)]) for w in (1, 2, 3)],
    )
    assert [token.start for token in merged] == [0, 2, 4, 6, 8]
    found = [round(float(token.probabilities_C[0]), 2) for token in merged]
    # Of (2, 3) the first window stands 2 from an edge, the second 1; of (6, 7) 1 and 2.
    assert found == [0.11, 0.12, 0.22, 0.32, 0.33]


def test_specials_and_bare_spaces_are_no_tokens() -> None:
    merged = merge_windows(
        [[(0, 0), (0, 0), (0, 2), (0, 0)]], [[-1, 0, 0, -1]], [np.stack([row(0.5)] * 4)]
    )
    assert [(token.start, token.end) for token in merged] == [(0, 2)]
