"""Where words begin and end, so that a tagger never answers with half of one.

A word is a run of characters between whitespace, without the punctuation around it, which stands
by itself. Scripts that write no spaces have no such runs: there every token is a word.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

# Scripts written without spaces between words: Thai, Lao, Tibetan, Myanmar, Khmer, the kana,
# Bopomofo and Han with its extensions and compatibility forms.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3100-\u312f"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uaa60-\uaa7f\uf900-\ufaff\uff66-\uff9f"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)
_RUN = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Word:
    """A word: `text[start:end]`, and the index of the first token that begins in it."""

    start: int
    end: int
    first_token: int


def words(text: str, offsets: Sequence[tuple[int, int]]) -> list[Word]:
    """The words of a text, in order.

    Args:
        text: the text that was tokenised.
        offsets: (start, end) of each token in it, rising; tokens that show no character (special
            ones, bare spaces) may be anywhere and are passed over.
    """
    begins = _token_begins(text, offsets)
    ordered = sorted(begins)
    result: list[Word] = []
    for run in _RUN.finditer(text):
        if not ordered or run.start() > ordered[-1]:
            break  # the rest of the text was not read
        for start, end in _cut(text, run.start(), run.end(), ordered):
            if start in begins:
                result.append(Word(start, end, begins[start]))
            elif result and result[-1].end == start:
                # No token begins here: this boundary runs through a token, so it is none.
                result[-1] = Word(result[-1].start, end, result[-1].first_token)
    return result


def _token_begins(text: str, offsets: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Character at which a token shows its first visible character → the token's index."""
    begins: dict[int, int] = {}
    for token, (start, end) in enumerate(offsets):
        shown = text[start:end].lstrip()
        if shown:
            begins.setdefault(end - len(shown), token)
    return begins


def _cut(text: str, start: int, end: int, begins: Sequence[int]) -> list[tuple[int, int]]:
    """A run between whitespace, cut where words meet punctuation or an unspaced script."""
    left, right = start, end
    while left < end and _is_mark(text[left]):
        left += 1
    while right > left and _is_mark(text[right - 1]):
        right -= 1
    edges = {start, left, right, end}
    inside = begins[bisect_right(begins, left) : bisect_left(begins, right)]
    edges |= {i for i in inside if _may_part(text[i - 1], text[i])}
    ordered = sorted(edges)
    return list(itertools.pairwise(ordered))


def _may_part(before: str, after: str) -> bool:
    """Whether words may part between two characters without a space: never before an accent."""
    unspaced = _UNSPACED.match(before) or _UNSPACED.match(after)
    return bool(unspaced) and unicodedata.category(after)[0] != "M"


def _is_mark(character: str) -> bool:
    """Punctuation or a symbol."""
    return unicodedata.category(character)[0] in "PS"
