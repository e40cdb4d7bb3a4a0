"""What the encoder reads of an item: one encoding, or several windows of a long text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import InputError, TooLongError
from xlmr.text.tokenizer import SINGLE_SPECIALS, Tokenizer
from xlmr.text.window import windows
from xlmr.types import Accounting, Encoding, LongText

Array = NDArray[np.float32]
Item = str | tuple[str, str]

# Neighbouring windows share an eighth of what the model reads: 64 of 512 tokens.
_STRIDE_SHARE = 8


@dataclass(frozen=True, slots=True)
class Reading:
    """One item as the encoder reads it.

    Attributes:
        encodings: one, or the windows of a long text.
        total_tokens: tokens of the whole item, special tokens included.
        unknown: tokens outside the vocabulary.
    """

    encodings: tuple[Encoding, ...]
    total_tokens: int
    unknown: int

    @property
    def tokens(self) -> list[int]:
        """Tokens of each window."""
        return [len(encoding.ids) for encoding in self.encodings]

    @property
    def accounting(self) -> Accounting:
        """What became of the item."""
        only = self.encodings[0] if len(self.encodings) == 1 else None
        return Accounting(
            tokens=sum(self.tokens),
            total_tokens=self.total_tokens,
            truncated=only is not None and only.truncated,
            windows=len(self.encodings),
            unknown=self.unknown,
        )


def read(
    tokenizer: Tokenizer, items: Sequence[Item], *, long: LongText, prompt: str = ""
) -> list[Reading]:
    """Encodes texts or pairs, and does with long ones what `long` says.

    Args:
        tokenizer: knows how many tokens the model reads.
        items: texts, or pairs of which the second text may be cut into windows.
        long: `truncate`, `truncate_left`, `window` or `error`.
        prompt: put before each text, in each of its windows.

    Raises:
        InputError: a text that cannot be encoded, or a value of `long` that does not exist.
        TooLongError: a text longer than the model, and `long` is `error`; or a first text of a pair
            that leaves the second no room.
    """
    check_long(long)
    if prompt:
        items = [prompt + item if isinstance(item, str) else item for item in items]
    if long == "truncate":
        encodings = tokenizer.encode_many(items)
        return [Reading((e,), total_tokens=e.total_tokens, unknown=e.unknown) for e in encodings]
    return [
        shorten_reading(
            whole,
            tokenizer.max_tokens,
            long=long,
            keep=_prompt_tokens(whole, len(prompt)),
            path=f"$[{i}]",
        )
        for i, whole in enumerate(tokenizer.encode_many_whole(items))
    ]


def shorten_reading(
    whole: Encoding, max_tokens: int, *, long: LongText, path: str, keep: int = 0
) -> Reading:
    """A whole text or pair as what the model can read of it.

    Args:
        whole: the uncut encoding.
        max_tokens: longest encoding.
        long: `truncate` cuts a single text's end, `truncate_left` its start.
        path: where the item stands, for errors.
        keep: how many leading tokens every window repeats, and no cut takes.

    Raises:
        TooLongError: it is longer and `long` is `error`, or windows have no room.
        InputError: a pair is longer and its start is to be cut.
    """
    encodings = [whole]
    if len(whole.ids) > max_tokens:
        if long == "error":
            raise TooLongError(
                f"{whole.total_tokens} tokens; the model reads {max_tokens}",
                path=path,
                hint="shorten it, or ask for truncate or window",
            )
        if long == "truncate":
            encodings = [_cut(whole, max_tokens)]
        elif long == "truncate_left":
            encodings = [_cut_start(whole, max_tokens, keep, path)]
        else:
            encodings = _windows(whole, max_tokens, keep, path)
    return Reading(
        encodings=tuple(encodings), total_tokens=whole.total_tokens, unknown=whole.unknown
    )


def _windows(whole: Encoding, max_tokens: int, keep: int, path: str) -> list[Encoding]:
    try:
        return windows(whole, max_tokens=max_tokens, stride=max_tokens // _STRIDE_SHARE, keep=keep)
    except TooLongError as fault:
        raise TooLongError(fault.message, path=path, hint=fault.hint) from None


def _cut(whole: Encoding, max_tokens: int) -> Encoding:
    """A single text without its end, but with its `</s>`."""
    return replace(
        whole,
        ids=whole.ids[: max_tokens - 1] + whole.ids[-1:],
        offsets=whole.offsets[: max_tokens - 1] + whole.offsets[-1:],
        segments=whole.segments[: max_tokens - 1] + whole.segments[-1:],
    )


def _cut_start(whole: Encoding, max_tokens: int, keep: int, path: str) -> Encoding:
    """A single text without its start, but with its `<s>` and its prompt."""
    if 1 in whole.segments:
        raise InputError("a pair is cut at its ends, never at its starts", path=path)
    keep = min(keep, max_tokens - SINGLE_SPECIALS)
    head, tail = slice(0, 1 + keep), slice(1 + keep - max_tokens, None)
    return replace(
        whole,
        ids=whole.ids[head] + whole.ids[tail],
        offsets=whole.offsets[head] + whole.offsets[tail],
        segments=whole.segments[head] + whole.segments[tail],
    )


def _prompt_tokens(whole: Encoding, characters: int) -> int:
    """How many tokens, after `<s>`, stand within a prompt of so many characters."""
    if not characters:
        return 0
    content = range(1, len(whole.ids) - 1)
    beyond = (i for i in content if whole.offsets[i][1] > characters)
    return next(beyond, len(whole.ids) - 1) - 1


def each(
    readings: Sequence[Reading], vectors: Iterable[Array]
) -> Iterator[tuple[Reading, list[Array]]]:
    """Each reading with the arrays of its encodings; takes them one reading at a time."""
    arrays = iter(vectors)
    for reading in readings:
        yield reading, list(islice(arrays, len(reading.encodings)))


def all_encodings(readings: Iterable[Reading]) -> tuple[Encoding, ...]:
    """The encodings of all readings, in order."""
    return tuple(chain.from_iterable(reading.encodings for reading in readings))


def check_long(long: str) -> None:
    """Refuses what is no way to treat a long text.

    Raises:
        InputError: names the choices.
    """
    if long not in ("truncate", "truncate_left", "window", "error"):
        raise InputError("expected truncate, truncate_left, window or error", path="$.long")


def check_list(items: Any) -> list[Any]:
    """The items as a list.

    Raises:
        InputError: a single text, or nothing that has items.
    """
    if isinstance(items, str):
        raise InputError("expected a list of texts, got one text", hint="put it in a list")
    if not isinstance(items, Iterable):
        raise InputError(f"expected a list, got {type(items).__name__}")
    return list(items)


def check_texts(items: Any) -> list[str]:
    """The items, if they are texts.

    Raises:
        InputError: an item that is no text; names its place.
    """
    texts = check_list(items)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"expected str, got {type(text).__name__}", path=f"$[{i}]")
    return texts


def check_pairs(items: Any) -> list[tuple[str, str]]:
    """The items, if they are pairs of texts.

    Raises:
        InputError: an item that is no pair of texts; names its place.
    """
    return [_check_pair(item, i) for i, item in enumerate(check_list(items))]


def _check_pair(item: Any, i: int) -> tuple[str, str]:
    if isinstance(item, str) or not isinstance(item, Sequence) or len(item) != 2:
        raise InputError("expected two texts", path=f"$[{i}]")
    for j, text in enumerate(item):
        if not isinstance(text, str):
            raise InputError(f"expected str, got {type(text).__name__}", path=f"$[{i}][{j}]")
    return item[0], item[1]


def check_items(items: Any) -> list[Item]:
    """The items, if each is a text or a pair of texts.

    Raises:
        InputError: an item that is neither; names its place.
    """
    found: list[Item] = []
    for i, item in enumerate(check_list(items)):
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, Sequence):
            found.append(_check_pair(item, i))
        else:
            raise InputError(f"expected str, got {type(item).__name__}", path=f"$[{i}]")
    return found


def check_count(value: int | None, name: str, *, most: int | None = None) -> None:
    """Refuses counts below 1 or above `most`; None is no count and passes.

    Raises:
        InputError: names the option.
    """
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError("expected a whole number of at least 1", path=f"$.{name}")
    if most is not None and value > most:
        raise InputError(f"{value}: expected at most {most}", path=f"$.{name}")
