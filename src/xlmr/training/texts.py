"""Texts without labels, out of files of any task: what vocabularies are counted on, students read.

A folder is searched to its bottom for files called `<language>.<split>.<ending>`; those of the
splits `dev`, `test` and the like are left alone, so that nothing is fitted to what a model is
scored on later.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xlmr.errors import DataError
from xlmr.evaluation.suites import SUFFIXES, Schema, Table, read_file
from xlmr.evaluation.suites.record import Record
from xlmr.text.codes import short_code

_KEPT_FOR_SCORING = frozenset({"dev", "test", "valid", "validation"})
# Columns that hold two texts a model may read together.
_PAIRS = (("question", "context"), ("premise", "hypothesis"), ("a", "b"), ("query", "positive"))


@dataclass(frozen=True, slots=True)
class Item:
    """One text, or two that are read together.

    Attributes:
        texts: one or two.
        language: in two letters where there are two; the same for `arb_Arab` and `ar`.
        line: of its file.
    """

    texts: tuple[str, ...]
    language: str
    line: int

    @property
    def input(self) -> tuple[str, ...]:
        """The texts."""
        return self.texts

    @property
    def answer(self) -> Hashable:
        """None."""
        return None

    @property
    def parts(self) -> list[Item]:
        """Each of its texts by itself."""
        return [Item((text,), self.language, self.line) for text in self.texts]


@dataclass(frozen=True, slots=True)
class _Found:
    """What one row of a file holds; a row as `read_file` knows it."""

    items: tuple[Item, ...]
    language: str
    line: int

    @property
    def input(self) -> tuple[str, ...]:
        return tuple(text for item in self.items for text in item.texts)

    @property
    def answer(self) -> Hashable:
        return None


@dataclass(frozen=True, slots=True)
class Texts:
    """Items, each once, in order of the files, and the files themselves."""

    items: tuple[Item, ...]
    files: tuple[Table[Any], ...]

    @property
    def languages(self) -> tuple[str, ...]:
        """In alphabetical order."""
        return tuple(sorted({item.language for item in self.items}))

    def singles(self) -> tuple[Item, ...]:
        """Every text by itself, each once."""
        return tuple(_once(part for item in self.items for part in item.parts))

    def lineage(self) -> list[dict[str, Any]]:
        """The files by name and digest, for a model to carry."""
        return [file.origin for file in self.files]


def read_texts(places: Sequence[Path], languages: Sequence[str]) -> Texts:
    """Reads every text of some languages.

    Args:
        places: files or folders.
        languages: codes such as `en`; all that are found where empty. A file called
            `eng_Latn.train.jsonl` is one of `en`.

    Raises:
        DataError: nothing there, a file that cannot be read, or no text in one of the languages.
    """
    asked = list(dict.fromkeys(short_code(language) for language in languages))
    paths = [path for place in places for path in _paths(place)]
    found = dict.fromkeys(code for path in paths if (code := _promised(path)))
    used = [path for path in paths if not asked or _promised(path) in (None, *asked)]
    schema = _AnyTexts("texts", (), _found, otherwise=asked[0] if len(asked) == 1 else None)
    files = [read_file(path, schema) for path in used]
    items = tuple(
        _once(
            item
            for file in files
            for row in file.rows
            for item in row.items
            if not asked or item.language in asked
        )
    )
    present = {item.language for item in items}
    missing = [language for language in asked if language not in present]
    if missing or not items:
        where = ", ".join(str(place) for place in places)
        known = ", ".join(sorted(present | {c for c in found if c})) or "no language at all"
        what = f"no texts in {', '.join(missing)}" if missing else "no texts"
        raise DataError(
            f"{where}: {what}",
            hint=f"there is {known}; files are called <language>.<split>.jsonl, "
            "and dev and test files are not read",
        )
    return Texts(items, tuple(files))


def split_off(
    items: Sequence[Item], *, share: float, most: int, seed: int
) -> tuple[list[Item], list[Item]]:
    """Items, and a random share of each language's that is kept apart, at most so many of each.

    Returns:
        The rest and the share, each in the given order. A language keeps at least half its items.
    """
    generator = np.random.default_rng(seed)
    places: dict[str, list[int]] = {}
    for i, item in enumerate(items):
        places.setdefault(item.language, []).append(i)
    apart: set[int] = set()
    for language in sorted(places):
        here = places[language]
        count = min(most, max(1, round(share * len(here))), len(here) // 2)
        apart.update(generator.permutation(here)[:count].tolist())
    return (
        [item for i, item in enumerate(items) if i not in apart],
        [items[i] for i in sorted(apart)],
    )


def draw(items: Sequence[Item], *, most: int, seed: int) -> list[Item]:
    """At most so many items, languages as evenly as they have them, in the given order."""
    if len(items) <= most:
        return list(items)
    generator = np.random.default_rng(seed)
    places: dict[str, list[int]] = {}
    for i, item in enumerate(items):
        places.setdefault(item.language, []).append(i)
    chosen: list[int] = []
    for left, language in enumerate(sorted(places, key=lambda name: len(places[name]))):
        room = (most - len(chosen)) // (len(places) - left)
        chosen += generator.permutation(places[language])[:room].tolist()
    return [items[i] for i in sorted(chosen)]


def _paths(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataError(f"{place}: no such file or folder")
    return [
        path
        for path in sorted(place.rglob("*"))
        if path.suffix in SUFFIXES
        and path.is_file()
        and path.name.count(".") == 2
        and path.name.split(".")[1] not in _KEPT_FOR_SCORING
    ]


def _promised(path: Path) -> str | None:
    """The language that a file's name says; None where it says nothing."""
    parts = path.name.split(".")
    return short_code(parts[0]) if len(parts) == 3 else None


@dataclass(frozen=True, slots=True)
class _AnyTexts(Schema[_Found]):
    """Rows of any task. `otherwise` is the language of files that do not say theirs."""

    otherwise: str | None = None

    def read(self, record: Record, language: str | None) -> _Found:
        said = record.label("language") if record.has("language") else language or self.otherwise
        if said is None:
            raise record.fault(
                "language", "missing", hint="or call the file <language>.<split>.jsonl"
            )
        return self.build(record, short_code(said))


def _found(record: Record, language: str) -> _Found:
    """Whatever a row holds: pairs, then single texts. What is empty or no text is passed over."""
    items = []
    paired: set[str] = set()
    for first, second in _PAIRS:
        if (one := _text(record, first)) and (other := _text(record, second)):
            others = [other, *(_texts(record, "negatives") if second == "positive" else ())]
            items += [Item((one, text), language, record.line) for text in others]
            paired |= {first, second}
    for column in ("text", "question", "answer"):
        if column not in paired and (text := _text(record, column)):
            items.append(Item((text,), language, record.line))
    if english := _text(record, "en"):
        items.append(Item((english,), "en", record.line))
    if (words := _texts(record, "tokens")) and not record.has("text"):
        items.append(Item((" ".join(words),), language, record.line))
    return _Found(tuple(items), language, record.line)


def _text(record: Record, column: str) -> str:
    value = record.values.get(column)
    return value if isinstance(value, str) and value.strip() and _encodable(value) else ""


def _texts(record: Record, column: str) -> list[str]:
    if not record.has(column) or not (record.flat or isinstance(record.value(column), list)):
        return []
    return [text for text in record.items(column) if isinstance(text, str) and _encodable(text)]


def _encodable(text: str) -> bool:
    """Whether it has no half of a surrogate pair."""
    return not any("\ud800" <= char <= "\udfff" for char in text) if not text.isascii() else True


def _once(items: Iterable[Item]) -> Iterator[Item]:
    seen: set[tuple[str, ...]] = set()
    for item in items:
        if item.texts not in seen:
            seen.add(item.texts)
            yield item
