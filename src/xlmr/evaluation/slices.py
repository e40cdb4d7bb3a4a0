"""The same rows, made harder as users make them: typos, Latin letters for everything, length.

Pure: what chance does follows from the seed and the text alone, so a row is disturbed alike
whatever stands beside it.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np

from xlmr.errors import MissingExtraError
from xlmr.evaluation.suites import Row

Disturbance = Literal["typos", "transliterated"]

# Most tokens of a bucket; the last takes the rest.
LENGTHS = (16, 64, 256)

# Rows of keyboards. A finger misses sideways; upwards keyboards differ more than they agree.
_KEYBOARD_ROWS = [
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "йцукенгшщзхъ",
    "фывапролджэ",
    "ячсмитьбю",
    "ςερτυθιοπ",
    "ασδφγηξκλ",
    "ζχψωβνμ",
    "ضصثقفغعهخحجد",
    "شسيبلاتنمكط",
    "ئءؤرىةوزظ",
    "קראטוןםפ",
    "שדגכעיחלךף",
    "זסבהנמצתץ",
]
_NEIGHBOURS = {
    letter: row[max(place - 1, 0) : place] + row[place + 1 : place + 2]
    for row in _KEYBOARD_ROWS
    for place, letter in enumerate(row)
}
_T = TypeVar("_T")


def with_typos(text: str, *, seed: int = 0, rate: float = 0.05) -> str:
    """Hits wrong keys: `rate` of the letters, at least one where there are two letters.

    A letter is swapped with the next one, left out, doubled or, where the keyboard of its script
    is known (Latin, Cyrillic, Greek, Arabic, Hebrew), replaced by a neighbour. A letter keeps its
    combining marks, and a text its language: none is emptied.
    """
    generator = np.random.default_rng([seed, zlib.crc32(text.encode("utf-8", "surrogatepass"))])
    letters = _letters(text)
    places = [place for place, letter in enumerate(letters) if letter[0].isalpha()]
    if len(places) < 2:
        return text
    count = max(1, round(rate * len(places)))
    for place in sorted(generator.choice(places, min(count, len(places) - 1), replace=False)):
        _hit_wrongly(letters, int(place), generator)
    disturbed = "".join(letters)
    if disturbed == text:  # one letter left out and its twin doubled
        letters = _letters(text)
        letters[places[0]] = ""
        disturbed = "".join(letters)
    return disturbed


def transliterate(text: str) -> str:
    """The text in ASCII, as typed on a keyboard without its script. ASCII stays as it is.

    Raises:
        MissingExtraError: anyascii is not installed.
    """
    try:
        from anyascii import anyascii
    except ModuleNotFoundError:
        raise MissingExtraError("anyascii", extra="fit") from None
    return str(anyascii(text))


def disturb(rows: Sequence[Row], how: Disturbance, *, seed: int = 0) -> tuple[Row, ...]:
    """The rows with their texts disturbed; a row whose text stays as it is is left out.

    Raises:
        MissingExtraError: `transliterated` without anyascii.
    """
    found = []
    for row in rows:
        text = with_typos(row.text, seed=seed) if how == "typos" else transliterate(row.text)
        if text != row.text and text.strip():
            found.append(replace(row, text=text))
    return tuple(found)


def by_length(
    items: Sequence[_T], tokens: Sequence[int], *, most: Sequence[int] = LENGTHS
) -> Mapping[str, tuple[_T, ...]]:
    """Items by the tokens of their texts: `to 16`, `17 to 64` …; empty buckets are left out.

    Raises:
        ValueError: lengths that differ, or bounds that do not rise.
    """
    if len(items) != len(tokens):
        raise ValueError(f"{len(items)} items, {len(tokens)} lengths")
    if not most or list(most) != sorted(set(most)):
        raise ValueError("the bounds do not rise")
    lower = [bound + 1 for bound in most]
    names = [f"to {most[0]}"]
    names += [f"{low} to {high}" for low, high in zip(lower, most[1:], strict=False)]
    names.append(f"from {lower[-1]}")
    buckets: dict[str, list[_T]] = {name: [] for name in names}
    for item, place in zip(items, np.searchsorted(most, tokens).tolist(), strict=True):
        buckets[names[place]].append(item)
    return {name: tuple(found) for name, found in buckets.items() if found}


def _hit_wrongly(letters: list[str], place: int, generator: np.random.Generator) -> None:
    """Disturbs one letter in place; a letter left out becomes an empty string."""
    letter = letters[place]
    if not letter:
        return
    near = _NEIGHBOURS.get(letter[0].lower(), "")
    ways = ["swap", "leave out", "double"] + ["miss"] * (2 if near else 0)
    way = ways[int(generator.integers(len(ways)))]
    following = letters[place + 1] if place + 1 < len(letters) else ""
    if way == "swap" and following[:1].isalpha() and following != letter:
        letters[place], letters[place + 1] = following, letter
    elif way == "miss":
        hit = near[int(generator.integers(len(near)))]
        letters[place] = (hit.upper() if letter[0].isupper() else hit) + letter[1:]
    elif way == "double":
        letters[place] = letter + letter
    else:
        letters[place] = ""


def _letters(text: str) -> list[str]:
    """Characters, each with the combining marks that follow it."""
    letters: list[str] = []
    for character in text:
        if letters and unicodedata.category(character)[0] == "M":
            letters[-1] += character
        else:
            letters.append(character)
    return letters
