from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.errors import InputError, TooLongError
from xlmr.text.tokenizer import Tokenizer
from xlmr.text.window import window_spans, windows
from xlmr.types import Encoding


def _text(length: int, *, segment: int = 0) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    """`length` tokens that differ from each other, each two characters long."""
    ids = [100 * (segment + 1) + place for place in range(length)]
    return ids, [(2 * place, 2 * place + 2) for place in range(length)], [segment] * length


def _single(length: int) -> Encoding:
    ids, offsets, segments = _text(length)
    nowhere = (0, 0)
    return Encoding(
        ids=(0, *ids, 2),
        offsets=(nowhere, *offsets, nowhere),
        segments=(-1, *segments, -1),
        total_tokens=length + 2,
        unknown=0,
    )


def _pair(first: int, second: int) -> Encoding:
    ids, offsets, segments = _text(first)
    other_ids, other_offsets, other_segments = _text(second, segment=1)
    nowhere = (0, 0)
    return Encoding(
        ids=(0, *ids, 2, 2, *other_ids, 2),
        offsets=(nowhere, *offsets, nowhere, nowhere, *other_offsets, nowhere),
        segments=(-1, *segments, -1, -1, *other_segments, -1),
        total_tokens=first + second + 4,
        unknown=0,
    )


def _sliding(window: Encoding, segment: int = 0) -> list[tuple[int, tuple[int, int]]]:
    rows = zip(window.ids, window.offsets, window.segments, strict=True)
    return [(id, span) for id, span, place in rows if place == segment]


@given(
    length=st.integers(0, 300), room=st.integers(1, 60), stride=st.integers(0, 59), keep=st.just(0)
)
def test_windows_cover_every_token_and_share_the_stride(
    length: int, room: int, stride: int, keep: int
) -> None:
    stride %= room
    whole = _single(length)
    cut = windows(whole, max_tokens=room + 2, stride=stride, keep=keep)
    starts, previous_end = [], 0
    for window in cut:
        tokens = _sliding(window)
        assert len(window.ids) <= room + 2
        assert window.ids[0] == 0
        assert window.ids[-1] == 2
        assert window.segments[0] == window.segments[-1] == -1
        assert window.total_tokens == len(window.ids)
        assert not window.truncated
        start = (tokens[0][0] - 100) if tokens else 0
        assert tokens == _sliding(whole)[start : start + len(tokens)]
        assert start <= previous_end
        starts.append(start)
        previous_end = start + len(tokens)
    assert previous_end == length
    steps = [after - before for before, after in pairwise(starts)]
    assert all(step == room - stride for step in steps[:-1])
    assert all(0 < step <= room - stride for step in steps[-1:])


@given(
    first=st.integers(0, 20),
    second=st.integers(0, 200),
    room=st.integers(1, 40),
    stride=st.integers(0, 39),
)
def test_in_a_pair_only_the_second_text_slides(
    first: int, second: int, room: int, stride: int
) -> None:
    stride %= room
    whole = _pair(first, second)
    cut = windows(whole, max_tokens=first + room + 4, stride=stride)
    seen = set()
    for window in cut:
        assert _sliding(window) == _sliding(whole)
        assert window.segments.count(-1) == 4
        assert len(window.ids) <= first + room + 4
        assert window.ids[first + 1 : first + 3] == (2, 2)
        seen.update(_sliding(window, 1))
    assert seen == set(_sliding(whole, 1))


def test_a_text_that_fits_is_its_own_window() -> None:
    whole = _single(10)
    assert windows(whole, max_tokens=12, stride=4) == [whole]
    assert len(windows(whole, max_tokens=11, stride=4)) == 2


def test_the_last_window_is_moved_back_until_it_is_full() -> None:
    assert window_spans(10, room=4, stride=1) == [(0, 4), (3, 7), (6, 10)]
    assert window_spans(11, room=4, stride=1) == [(0, 4), (3, 7), (6, 10), (7, 11)]
    assert window_spans(4, room=4, stride=1) == [(0, 4)]


def test_kept_tokens_stand_at_the_head_of_every_window() -> None:
    whole = _single(20)
    cut = windows(whole, max_tokens=10, stride=2, keep=3)
    assert len(cut) > 1
    assert {window.ids[:4] for window in cut} == {(0, 100, 101, 102)}
    assert {id for window in cut for id in window.ids} == set(whole.ids)


def test_unknown_tokens_are_counted_in_each_window() -> None:
    whole = _single(8)
    ids = list(whole.ids)
    ids[1] = ids[2] = ids[8] = 3
    holed = Encoding(tuple(ids), whole.offsets, whole.segments, whole.total_tokens, 3)
    cut = windows(holed, max_tokens=6, stride=0)
    assert [window.unknown for window in cut] == [2, 1]


@pytest.mark.parametrize("stride", [4, 5])
def test_a_stride_as_wide_as_the_room_is_refused(stride: int) -> None:
    with pytest.raises(TooLongError):
        windows(_single(50), max_tokens=6, stride=stride)


def test_a_first_text_that_leaves_no_room_is_too_long() -> None:
    with pytest.raises(TooLongError, match="12 of 12 tokens"):
        windows(_pair(8, 50), max_tokens=12, stride=0)


@pytest.mark.parametrize(("stride", "keep"), [(-1, 0), (0, -1)])
def test_negative_numbers_are_refused(stride: int, keep: int) -> None:
    with pytest.raises(InputError):
        windows(_single(50), max_tokens=12, stride=stride, keep=keep)


def test_a_cut_text_cannot_be_windowed(small: Tokenizer) -> None:
    with pytest.raises(InputError, match="encode_whole"):
        windows(small.encode("abc " * 30), max_tokens=16, stride=2)


def test_offsets_stay_those_of_the_text(small: Tokenizer) -> None:
    text = "the cat sat on a mat, reading the news. " * 4
    whole = small.encode_whole(text)
    cut = windows(whole, max_tokens=small.max_tokens, stride=8)
    read = {
        (start, text[start:end]) for window in cut for start, end in window.offsets if end > start
    }
    assert {start + place for start, piece in read for place in range(len(piece))} == {
        place for place, character in enumerate(text) if character != " "
    }
    assert all(" " not in piece for _, piece in read)
