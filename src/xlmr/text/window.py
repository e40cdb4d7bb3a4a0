"""A long text → overlapping windows, each an `Encoding` of its own.

The windows are cut from the tokens of the whole text, so a word is split in the same way in every
window, and offsets stay those of the original text.
"""

from __future__ import annotations

from xlmr.errors import InputError, TooLongError
from xlmr.text.tokenizer import PAIR_SPECIALS, SINGLE_SPECIALS
from xlmr.text.tokenizer_file import SPECIAL_IDS
from xlmr.types import Encoding


def windows(encoding: Encoding, *, max_tokens: int, stride: int, keep: int = 0) -> list[Encoding]:
    """Slides over a text, or over the second text of a pair with the first one kept whole.

    Every token of the text stands in at least one window. Neighbouring windows share exactly
    `stride` tokens, but for the last two, which share `stride` or more: the last window is moved
    back until it is full, so that it reads as much context as the others. An encoding that fits is
    returned as it is, alone.

    Args:
        encoding: the whole text: `Tokenizer.encode_whole`.
        max_tokens: longest window, special tokens, first text and kept tokens included.
        stride: how many tokens neighbours share.
        keep: how many leading tokens (a prompt) are repeated at the head of every window.

    Returns:
        At least one encoding, none longer than `max_tokens`, none counted as truncated.

    Raises:
        TooLongError: the first text, or what is kept, leaves no room to slide.
        InputError: `stride` or `keep` is negative, or the encoding was truncated already.
    """
    if encoding.truncated:
        raise InputError("the text was cut already", hint="encode it with encode_whole")
    if stride < 0 or keep < 0:
        raise InputError(f"stride {stride} and keep {keep} must not be negative")
    if len(encoding.ids) <= max_tokens:
        return [encoding]
    head = _head(encoding) + keep
    sliding = len(encoding.ids) - head - 1
    room = max_tokens - head - 1
    if room <= stride:
        fixed = head + 1
        raise TooLongError(
            f"{fixed} of {max_tokens} tokens stand in every window, which leaves no more than the "
            f"{stride} that windows share",
            hint="shorten the first text, or lower the stride",
        )
    return [
        _cut(encoding, head, head + start, head + stop)
        for start, stop in window_spans(sliding, room=room, stride=stride)
    ]


def window_spans(length: int, *, room: int, stride: int) -> list[tuple[int, int]]:
    """Where windows of `room` tokens begin and end in a row of `length`; `stride` < `room`."""
    if length <= room:
        return [(0, length)]
    starts = [*range(0, length - room, room - stride), length - room]
    return [(start, start + room) for start in starts]


def _head(encoding: Encoding) -> int:
    """How many tokens come before the sliding text: `<s>`, or `<s> A </s></s>`."""
    specials = encoding.segments.count(-1)
    if specials == SINGLE_SPECIALS:
        return 1
    if specials == PAIR_SPECIALS:
        return encoding.segments.count(0) + PAIR_SPECIALS - 1
    raise InputError(f"{specials} special tokens: neither a text nor a pair")


def _cut(encoding: Encoding, head: int, start: int, stop: int) -> Encoding:
    ids = encoding.ids[:head] + encoding.ids[start:stop] + encoding.ids[-1:]
    return Encoding(
        ids=ids,
        offsets=encoding.offsets[:head] + encoding.offsets[start:stop] + encoding.offsets[-1:],
        segments=encoding.segments[:head] + encoding.segments[start:stop] + encoding.segments[-1:],
        total_tokens=len(ids),
        unknown=ids.count(SPECIAL_IDS["<unk>"]),
    )
