"""CoNLL and CoNLL-U: one word a line, sentences parted by empty lines.

CoNLL: two columns or more, parted by tabs, or by blanks where no line has a tab. The first column
is the word and the last its tag; every column also has its number as a name, so that a schema can
ask for others: `TAG.with_columns(tokens="2", tags="3")`. Comments and `-DOCSTART-` are passed over.

CoNLL-U: ten columns, and the syntactic words of each sentence under `tokens`; `upos`, `xpos`,
`deprel` and each key of the last column (`NER=B-PER`) under their names. `SpaceAfter=No` is heeded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from xlmr.errors import DataError
from xlmr.evaluation.suites.record import Record

_COMMENT = re.compile(r"#\s*\S+\s*=")
_COLUMNS = ("id", "tokens", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_WORD = re.compile(r"\d+")
_RANGE = re.compile(r"\d+-(\d+)")
_EMPTY_NODE = re.compile(r"\d+\.\d+")
# Keys of the last column that say nothing about a word's class.
_LAYOUT = frozenset({"SpaceAfter", "SpacesAfter", "SpacesBefore"})


def conll_records(path: Path, content: str) -> Iterator[Record]:
    """The sentences of a CoNLL file, as `tokens` and `tags`.

    Raises:
        DataError: a line has one column only, or another number of them than the first.
    """
    tabs = "\t" in content
    expected = 0
    for sentence in _sentences(content):
        rows: list[list[str]] = []
        for line, said in sentence:
            fields = said.split("\t") if tabs else said.split()
            if _is_comment(said, tabs=tabs) or fields[0] == "-DOCSTART-":
                continue
            expected = expected or len(fields)
            if len(fields) != expected or expected < 2:
                raise DataError(
                    f"{path}:{line}: column {len(fields)} is the last, expected {max(expected, 2)}"
                )
            rows.append(fields)
        if rows:
            columns: list[list[object]] = [list(column) for column in zip(*rows, strict=True)]
            values: dict[str, object] = {str(i): c for i, c in enumerate(columns, start=1)}
            yield Record(path, sentence[0][0], values | {"tokens": columns[0], "tags": columns[-1]})


def conllu_records(path: Path, content: str) -> Iterator[Record]:
    """The sentences of a CoNLL-U file, as `text`, `tokens` and one list for each kind of label.

    Raises:
        DataError: a line has not ten columns, or its first is no number.
    """
    keys = frozenset(_misc_keys(content))
    for sentence in _sentences(content):
        words = _Words()
        for line, said in sentence:
            if not said.startswith("#"):
                words.add(_fields(path, line, said))
        if words.rows:
            yield Record(path, sentence[0][0], words.values(keys))


class _Words:
    """The words of a sentence as they come, and the text they make."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self.text = ""
        self._range_end: str | None = None
        self._range_glued = False

    def add(self, fields: list[str]) -> None:
        """Takes the next line; ranges and empty nodes are no words of their own."""
        glued = "SpaceAfter=No" in fields[-1].split("|")
        if spanned := _RANGE.fullmatch(fields[0]):
            self._range_end, self._range_glued = spanned[1], glued
        elif _WORD.fullmatch(fields[0]):
            self.rows.append(fields)
            if fields[0] == self._range_end:
                glued, self._range_end = self._range_glued, None
            # Words that share one written form stand apart here: they must be told apart.
            self.text += fields[1] + ("" if glued else " ")

    def values(self, keys: frozenset[str]) -> dict[str, object]:
        """The columns; a word without a key of the last column has `O` there."""
        values: dict[str, object] = {
            name: [row[i] for row in self.rows] for i, name in enumerate(_COLUMNS)
        }
        said = [_misc(row[-1]) for row in self.rows]
        values |= {key: [misc.get(key, "O") for misc in said] for key in keys - values.keys()}
        return values | {"text": self.text.strip()}


def _fields(path: Path, line: int, said: str) -> list[str]:
    fields = said.split("\t")
    if len(fields) != len(_COLUMNS):
        raise DataError(f"{path}:{line}: column {len(fields)} is the last, expected 10")
    kinds = (_WORD, _RANGE, _EMPTY_NODE)
    if not any(kind.fullmatch(fields[0]) for kind in kinds):
        raise DataError(f"{path}:{line}: column 1: expected a number, a range or 8.1")
    return fields


def _misc(cell: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in cell.split("|"))
    return {key: value for key, equals, value in pairs if equals and key not in _LAYOUT}


def _misc_keys(content: str) -> Iterator[str]:
    for said in content.split("\n"):
        if said.strip() and not said.startswith("#"):
            yield from _misc(said.rstrip("\r").rpartition("\t")[2])


def _is_comment(said: str, *, tabs: bool) -> bool:
    """Where columns are parted by blanks, a lone `#` may be a word: only `# key = …` is none."""
    if not said.startswith("#"):
        return False
    return "\t" not in said if tabs else bool(_COMMENT.match(said))


def _sentences(content: str) -> Iterator[list[tuple[int, str]]]:
    sentence: list[tuple[int, str]] = []
    for line, said in enumerate(content.split("\n"), start=1):
        if said.strip():
            sentence.append((line, said.removesuffix("\r")))
        elif sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence
