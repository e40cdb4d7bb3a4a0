"""Texts laid end to end: nothing is lost, texts are parted, words stay whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny import tokenizer_json

from xlmr.text.tokenizer import Tokenizer
from xlmr.training.packing import NO_WORD, Packed, pack


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(tokenizer_json(), encoding="utf-8")
    return Tokenizer.from_file(path, max_tokens=512)


def laid_out(packed: Sequence[Packed]) -> list[int]:
    return [id for part in packed for id in part.ids[1:-1]]


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text("ab ,.世界хmoney", min_size=1, max_size=60), min_size=1, max_size=8),
    room=st.integers(3, 20),
)
def test_packing_loses_nothing(tokenizer: Tokenizer, texts: list[str], room: int) -> None:
    packed = list(pack(tokenizer, texts, max_tokens=room))
    wanted = [id for text in texts for id in tokenizer.encode(text).ids[1:-1]]
    assert [id for id in laid_out(packed) if id != tokenizer.eos_id] == wanted
    for part in packed:
        assert 3 <= len(part.ids) <= room
        assert (part.ids[0], part.ids[-1]) == (tokenizer.bos_id, tokenizer.eos_id)
        assert len(part.words_L) == len(part.ids)
        inside = part.words_L[1:-1]
        assert ((inside == NO_WORD) == (np.array(part.ids[1:-1]) == tokenizer.eos_id)).all()
        numbers = inside[inside != NO_WORD]
        assert numbers[0] == 0
        assert set(np.diff(numbers)) <= {0, 1}


def test_texts_are_parted_and_words_stay_whole(tokenizer: Tokenizer) -> None:
    packed = list(pack(tokenizer, ["anna lives", "xyz in paris"], max_tokens=9))
    anna, lives = tokenizer.encode("anna lives").ids[1:-1]
    xyz = tokenizer.encode("xyz").ids[1:-1]
    rest = tokenizer.encode("in paris").ids[1:-1]
    eos = tokenizer.eos_id
    assert len(xyz) == 4  # a bare space and three letters
    assert [part.ids for part in packed] == [
        (0, anna, lives, eos, *xyz, eos),
        (0, *rest, eos),
    ]
    assert packed[0].words_L.tolist() == [-1, 0, 1, -1, 2, 2, 2, 2, -1]
    assert [part.text for part in packed] == [0, 1]


def test_a_very_long_text_is_read_to_its_end(tokenizer: Tokenizer) -> None:
    packed = list(pack(tokenizer, ["hello world " * 10_000], max_tokens=512))
    assert sum(len(part.ids) - 2 for part in packed) == 20_000
    assert {len(part.ids) for part in packed[:-1]} == {512}
    assert {part.text for part in packed} == {0}
