"""A text as detectors read it: any digits as 0 to 9, any dash as `-`, nothing invisible between.

Detectors are written once, for ASCII digits and signs; where they find something is told in places
of the text as it was.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cache

# Soft hyphens, joiners, marks of direction, variation selectors, keycaps: who writes a number with
# them in between writes the same number.
_INVISIBLE = (
    "\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\u20e3"
    "\ufe00-\ufe0f\ufeff\U000e0000-\U000e007f\U000e0100-\U000e01ef"
)
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63"
_SPACES = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_INVISIBLE_RUN = re.compile(f"[{_INVISIBLE}]+")


@dataclass(frozen=True, slots=True)
class Plain:
    """What is read, and where each of its characters stood.

    Attributes:
        text: the text to read.
        starts: where, in `text`, something invisible was left out before; rising.
        shifts: how many characters were left out up to there.
    """

    text: str
    starts: list[int] = field(default_factory=list)
    shifts: list[int] = field(default_factory=list)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The place in the original of `text[start:end]`, which is not empty."""
        return start + self._shift(start), end + self._shift(end - 1)

    def _shift(self, place: int) -> int:
        found = bisect_right(self.starts, place)
        return self.shifts[found - 1] if found else 0


def plain(text: str) -> Plain:
    """The text as detectors read it. Takes time linear in its length."""
    if text.isascii():
        return Plain(text)
    table, odd = _odd()
    text = odd.sub(lambda found: table[found[0]], text)
    pieces: list[str] = []
    starts: list[int] = []
    shifts: list[int] = []
    last = kept = 0
    for found in _INVISIBLE_RUN.finditer(text):
        pieces.append(text[last : found.start()])
        kept += found.start() - last
        last = found.end()
        starts.append(kept)
        shifts.append(last - kept)
    if not starts:
        return Plain(text)
    pieces.append(text[last:])
    return Plain("".join(pieces), starts, shifts)


@cache
def _odd() -> tuple[dict[str, str], re.Pattern[str]]:
    """Characters that are read as an ASCII one, and what finds them."""
    table = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    # No decimal digit stands in a plane above the second.
    for code in range(0x80, min(0x20000, sys.maxunicode)):
        if (sign := chr(code)).isdecimal():
            table[sign] = str(int(sign))
    table |= dict.fromkeys(_DASHES, "-")
    spaces = re.compile(f"[{_SPACES}]")
    table |= {chr(code): " " for code in range(0x80, 0x3001) if spaces.match(chr(code))}
    return table, re.compile(f"[{''.join(re.escape(sign) for sign in sorted(table))}]")
