"""Texts laid end to end, so that a language model reads full features, and the words in them.

    <s> first text </s> second text </s>

A text that does not fit goes on in the next feature, from a whole word on; nothing is lost and
nothing is read twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xlmr.model.heads.words import words
from xlmr.text.tokenizer import Tokenizer
from xlmr.types import Encoding

_CHUNK_TEXTS = 256
# A number for tokens that are in no word.
NO_WORD = -1


@dataclass(frozen=True, slots=True)
class Packed:
    """One feature's worth of text.

    Attributes:
        ids: token ids with `<s>` and `</s>`.
        words_L: int32, the number of each token's word, from 0; `NO_WORD` for special tokens.
        text: place of the first text in it.
    """

    ids: tuple[int, ...]
    words_L: NDArray[np.int32]
    text: int


def pack(tokenizer: Tokenizer, texts: Sequence[str], *, max_tokens: int) -> Iterator[Packed]:
    """Lays texts end to end, in order.

    Args:
        tokenizer: texts to ids.
        texts: of any length.
        max_tokens: tokens of a feature at most, special ones included; at least 3.
    """
    building = _Building(max_tokens, (tokenizer.bos_id, tokenizer.eos_id))
    for place, text_words in enumerate(_read(tokenizer, texts)):
        yield from building.next_text(place)
        for word in text_words:
            yield from building.add(word)
    yield from building.close()


def _read(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[list[tuple[int, ...]]]:
    """The ids of each text, word by word."""
    # Each id is kept once: a corpus of millions of Python's integers would fill the memory.
    known: dict[int, int] = {}
    for start in range(0, len(texts), _CHUNK_TEXTS):
        some = texts[start : start + _CHUNK_TEXTS]
        for text, encoding in zip(some, tokenizer.encode_many_whole(some), strict=True):
            yield [
                tuple(known.setdefault(id, id) for id in encoding.ids[begin:end])
                for begin, end in word_spans(text, encoding)
            ]


def word_spans(text: str, encoding: Encoding) -> list[tuple[int, int]]:
    """First token and end of each word, without a gap from after `<s>` to before `</s>`.

    A bare space goes with the word that follows it.
    """
    last = len(encoding.ids) - 1
    if last < 2:
        return []
    begins = []
    for word in words(text, encoding.offsets):
        begin = word.first_token
        while begin > 1 and encoding.offsets[begin - 1][0] == encoding.offsets[begin - 1][1]:
            begin -= 1
        begins.append(begin)
    edges = [1, *sorted({begin for begin in begins if 1 < begin < last}), last]
    return list(itertools.pairwise(edges))


class _Building:
    """A feature that is being filled."""

    def __init__(self, max_tokens: int, bounds: tuple[int, int]) -> None:
        self._first, self._last = bounds
        self._room = max_tokens - 2
        self._ids: list[int] = []
        self._words: list[int] = []
        self._word = 0
        self._text = self._begins_with = 0

    def next_text(self, place: int) -> Iterator[Packed]:
        """Ends a text; gives the feature if nothing would fit behind its `</s>`."""
        self._text = place
        if self._ids and len(self._ids) + 2 > self._room:
            yield from self.close()
        elif self._ids and self._words[-1] != NO_WORD:  # else the text before had no words
            self._ids.append(self._last)
            self._words.append(NO_WORD)

    def add(self, word: tuple[int, ...]) -> Iterator[Packed]:
        """Adds a word, and gives the features that it filled. One longer than a feature is cut."""
        if self._ids and len(self._ids) + len(word) > self._room:
            yield from self.close()
        for start in range(0, len(word), self._room):
            piece = word[start : start + self._room]
            if start:
                yield from self.close()
            if not self._ids:
                self._begins_with = self._text
            self._ids += piece
            self._words += [self._word] * len(piece)
            self._word += 1

    def close(self) -> Iterator[Packed]:
        """Gives what has been laid down so far."""
        if self._words and self._words[-1] == NO_WORD:  # the `</s>` of the feature follows
            self._ids.pop()
            self._words.pop()
        if self._ids:
            yield Packed(
                ids=(self._first, *self._ids, self._last),
                words_L=np.array([NO_WORD, *self._words, NO_WORD], np.int32),
                text=self._begins_with,
            )
        self._ids, self._words, self._word = [], [], 0
