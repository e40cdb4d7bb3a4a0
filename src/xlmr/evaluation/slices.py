"""The same rows, made harder as users make them: typos, two languages in one text, Latin letters.

Pure: what chance does follows from the seed and the text alone, so a row is disturbed alike
whatever stands beside it.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar, cast, get_args

import numpy as np

from xlmr.errors import MissingExtraError
from xlmr.evaluation.suites import (
    MultiLabelRow,
    PairRow,
    PairScoreRow,
    Row,
    RowT,
    ScoreRow,
    Table,
)
from xlmr.text.script import is_english

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
# The texts of rows whose answer does not stand in them.
_FIELDS: Mapping[type, tuple[str, ...]] = {
    Row: ("text",),
    MultiLabelRow: ("text",),
    ScoreRow: ("text",),
    PairRow: ("first", "second"),
    PairScoreRow: ("first", "second"),
}
# Characters between blanks, on average, from which a script is taken to write none.
_LONGEST_WORD = 15
_T = TypeVar("_T")


def with_typos(text: str, *, seed: int = 0, rate: float = 0.05) -> str:
    """Hits wrong keys: `rate` of the letters, at least one where there are two letters.

    A letter is swapped with the next one, left out, doubled or, where the keyboard of its script
    is known (Latin, Cyrillic, Greek, Arabic, Hebrew), replaced by a neighbour. A letter keeps its
    combining marks, and a text its language: none is emptied.
    """
    generator = _generator(seed, text)
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


def harder(files: Sequence[Table[Any]], *, seed: int = 0) -> dict[str, list[Table[Any]]]:
    """The files with harder texts, by what was done to them; without rows that it left as is.

    Only rows whose answer does not stand in the text, a label or a number for one text or two, can
    be disturbed: of others there is nothing here.

    Raises:
        MissingExtraError: as `transliterate`.
    """
    if not all(type(row) in _FIELDS for file in files for row in file.rows):
        return {}
    changed = {
        how: [replace(file, rows=disturb(file.rows, how, seed=seed)) for file in files]
        for how in get_args(Disturbance)
    } | {"code-switched": switch_languages(files, seed=seed)}
    kept = {how: [file for file in each if file.rows] for how, each in changed.items()}
    return {how: each for how, each in kept.items() if each}


def disturb(rows: Sequence[RowT], how: Disturbance, *, seed: int = 0) -> tuple[RowT, ...]:
    """The rows with their texts disturbed; a row whose texts stay as they are is left out.

    Raises:
        MissingExtraError: `transliterated` without anyascii.
        KeyError: rows whose answer stands in the text.
    """
    found = []
    for row in rows:
        names = _FIELDS[type(row)]
        before = {name: str(getattr(row, name)) for name in names}
        after = {
            name: with_typos(text, seed=seed) if how == "typos" else transliterate(text)
            for name, text in before.items()
        }
        if after != before and all(text.strip() for text in after.values()):
            found.append(replace(cast("Any", row), **after))
    return tuple(found)


def switch_languages(files: Sequence[Table[Any]], *, seed: int = 0) -> list[Table[Any]]:
    """The files with texts that mix two languages; rows without a partner are left out.

    A text's partner is in English, or in any other language where the text is English itself. Where
    rows of both have the same id, they say the same: half of the words give way to those that
    stand as far along in the partner. Else the partner is drawn among rows of the same answer, and
    the first half of one is followed by the second half of the other.
    """
    partners = _Partners([row for file in files for row in file.rows], seed)
    return [replace(file, rows=tuple(partners.mixed(file.rows))) for file in files]


class _Partners:
    """Rows by what makes them partners of others."""

    def __init__(self, rows: Sequence[Any], seed: int) -> None:
        self._seed = seed
        self._languages = sorted({row.language for row in rows})
        self._by_id = {(row.language, row.id): row for row in rows if getattr(row, "id", "")}
        self._by_answer: dict[object, list[Any]] = {}
        for row in rows:
            self._by_answer.setdefault((row.language, row.answer), []).append(row)

    def mixed(self, rows: Sequence[Any]) -> Iterator[Any]:
        """Each row that has a partner, mixed with it."""
        for row in rows:
            if _FIELDS.get(type(row)) != ("text",):
                continue
            generator = _generator(self._seed, row.text)
            others = [name for name in self._languages if name != row.language]
            english = [name for name in others if is_english(name)]
            if not others:
                continue
            language = (english or others)[int(generator.integers(len(english or others)))]
            text = self._mix(row, language, generator)
            if text is not None and text != row.text:
                yield replace(row, text=text)

    def _mix(self, row: Any, language: str, generator: np.random.Generator) -> str | None:
        parallel = self._by_id.get((language, getattr(row, "id", "")))
        if parallel is not None:
            return _swapped(_words(row.text), _words(parallel.text), generator)
        alike = self._by_answer.get((language, row.answer))
        if not alike:
            return None
        own = _words(row.text)
        other = _words(alike[int(generator.integers(len(alike)))].text)
        return " ".join([*own[: -(-len(own) // 2)], *other[len(other) // 2 :]])


def _swapped(own: list[str], other: list[str], generator: np.random.Generator) -> str:
    """Half of the words, rounded up, replaced by those that stand as far along in the other."""
    chosen = set(generator.choice(len(own), -(-len(own) // 2), replace=False).tolist())
    return " ".join(
        other[i * len(other) // len(own)] if i in chosen else word for i, word in enumerate(own)
    )


def _words(text: str) -> list[str]:
    """What blanks part; a text with hardly any, in a script without them, in pieces of four."""
    words = text.split()
    if len(text) <= _LONGEST_WORD * len(words):
        return words
    return [word[i : i + 4] for word in words for i in range(0, len(word), 4)]


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


def _generator(seed: int, text: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(text.encode("utf-8", "surrogatepass"))])


def _letters(text: str) -> list[str]:
    """Characters, each with the combining marks that follow it."""
    letters: list[str] = []
    for character in text:
        if letters and unicodedata.category(character)[0] == "M":
            letters[-1] += character
        else:
            letters.append(character)
    return letters
