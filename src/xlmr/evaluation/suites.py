"""Labelled rows, read strictly: every fault names file, line and column, never the text itself.

A row has `text`, `label` and `language`. JSONL and CSV are read; the language may be left out
where the file is called `<language>.<split>.jsonl` (or `.csv`). Labels and languages lose blanks
at their ends. A row that repeats an earlier one exactly is dropped and counted; a text that
returns under another label is kept and counted, since only the author knows which is right.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xlmr.errors import DataError

_SUFFIXES = (".jsonl", ".csv")
_FILE_NAME = re.compile(r"(?P<language>[a-z]{2,3}(-[A-Za-z0-9]+)*)\.(?P<split>\w+)\.(jsonl|csv)")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled text, and the line of its file where it starts (from 1)."""

    text: str
    label: str
    language: str
    line: int


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file's rows in order.

    Attributes:
        path: where it was read.
        sha256: of the file's bytes, all rows included.
        rows: what is used of it.
        duplicates: rows dropped because they repeat an earlier one exactly.
        contradictions: rows kept although an earlier one has the same text and another label.
    """

    path: Path
    sha256: str
    rows: tuple[Row, ...]
    duplicates: int
    contradictions: int


def read_split(place: Path, split: str, *, languages: Sequence[str] = ()) -> tuple[DataFile, ...]:
    """Reads a file, or the files `<language>.<split>.jsonl` of a folder in order of language.

    Args:
        place: a file (then `split` says nothing) or a folder.
        split: which files of a folder: `train`, `dev`, `test`.
        languages: keep only these; all where empty.

    Raises:
        DataError: nothing there, a row at fault, or a file in a folder whose rows are in another
            language than its name says.
    """
    if not place.exists():
        raise DataError(f"{place}: no such file or folder")
    if place.is_file():
        files = [_only(read_file(place), languages)]
    else:
        files = [_agreeing(read_file(path)) for path in _paths(place, split, languages)]
    wanted = f" in {', '.join(languages)}" if languages else ""
    if not any(file.rows for file in files):
        raise DataError(
            f"{place}: no rows for {split}{wanted}",
            hint=f"a folder holds files called <language>.{split}.jsonl",
        )
    return tuple(file for file in files if file.rows)


def read_file(path: Path) -> DataFile:
    """Reads one JSONL or CSV file.

    Raises:
        DataError: the file is empty, not UTF-8, of another kind, or a row is at fault.
    """
    if path.suffix not in _SUFFIXES:
        raise DataError(f"{path}: expected a .jsonl or .csv file")
    raw = path.read_bytes()
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = raw.count(b"\n", 0, fault.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8", hint="save the file as UTF-8") from None
    records = _csv_records(path, content) if path.suffix == ".csv" else _json_records(path, content)
    name = _FILE_NAME.fullmatch(path.name)
    language = name["language"] if name else None
    rows = [_row(path, line, record, language) for line, record in records]
    if not rows:
        raise DataError(f"{path}: no rows", hint="each row needs a text, a label and a language")
    unique = list({(row.text, row.label, row.language): row for row in reversed(rows)}.values())
    unique.reverse()
    texts = {(row.text, row.language) for row in unique}
    return DataFile(
        path=path,
        sha256=hashlib.sha256(raw).hexdigest(),
        rows=tuple(unique),
        duplicates=len(rows) - len(unique),
        contradictions=len(unique) - len(texts),
    )


def by_language(files: Sequence[DataFile]) -> dict[str, tuple[Row, ...]]:
    """All rows by language, languages in alphabetical order."""
    rows: dict[str, list[Row]] = {}
    for file in files:
        for row in file.rows:
            rows.setdefault(row.language, []).append(row)
    return {language: tuple(rows[language]) for language in sorted(rows)}


def _paths(folder: Path, split: str, languages: Sequence[str]) -> list[Path]:
    named = [(path, _FILE_NAME.fullmatch(path.name)) for path in sorted(folder.iterdir())]
    return [
        path
        for path, name in named
        if name and name["split"] == split and (not languages or name["language"] in languages)
    ]


def _only(file: DataFile, languages: Sequence[str]) -> DataFile:
    if not languages:
        return file
    return replace(file, rows=tuple(row for row in file.rows if row.language in languages))


def _agreeing(file: DataFile) -> DataFile:
    promised = file.path.name.split(".")[0]
    for row in file.rows:
        if row.language != promised:
            raise _fault(file.path, row.line, "language", f"the file name promises {promised}")
    return file


def _json_records(path: Path, content: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # Not splitlines(): it also cuts at U+2028 and others, which JSON allows inside a string.
    for line, record in enumerate(content.split("\n"), start=1):
        if not record.strip():
            continue
        try:
            value = json.loads(record)
        except ValueError as fault:
            column = getattr(fault, "colno", 1)
            raise DataError(f"{path}:{line}: not JSON (character {column})") from None
        except RecursionError:
            raise DataError(f"{path}:{line}: nested too deeply") from None
        if not isinstance(value, dict):
            raise DataError(f"{path}:{line}: expected an object, got {_kind(value)}")
        yield line, value


def _csv_records(path: Path, content: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for fields in reader:
            if header is None:
                header = [name.strip() for name in fields]
                _check_header(path, header)
            elif len(fields) > len(header):
                raise DataError(f"{path}:{line}: {len(fields)} fields under {len(header)} columns")
            elif fields:
                yield line, dict(zip(header, fields, strict=False))
            line = reader.line_num + 1
    except csv.Error as fault:
        raise DataError(f"{path}:{line}: not CSV ({fault})") from None


def _check_header(path: Path, header: Sequence[str]) -> None:
    for column in ("text", "label"):
        if header.count(column) != 1:
            raise DataError(
                f"{path}:1: {column}: expected one column of that name, got {header.count(column)}",
                hint="the first line names the columns: text,label,language",
            )


def _row(path: Path, line: int, record: Mapping[str, Any], language: str | None) -> Row:
    text = _text(path, line, record, "text")
    label = _text(path, line, record, "label").strip()
    if "language" in record or language is None:
        language = _text(path, line, record, "language").strip()
        if not _LANGUAGE.fullmatch(language):
            raise _fault(path, line, "language", "expected a code like en or zh-Hant")
    return Row(text=text, label=label, language=language, line=line)


def _text(path: Path, line: int, record: Mapping[str, Any], column: str) -> str:
    if column not in record:
        hint = "or call the file <language>.<split>.jsonl" if column == "language" else ""
        raise _fault(path, line, column, "missing", hint=hint)
    value = record[column]
    if not isinstance(value, str):
        raise _fault(path, line, column, f"expected text, got {_kind(value)}")
    if not value.strip():
        raise _fault(path, line, column, "expected text, got nothing but blanks")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _fault(path, line, column, "half a surrogate pair is not a character") from None
    return value


def _kind(value: object) -> str:
    if value is None:
        return "null"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return kinds.get(type(value), "an object")


def _fault(path: Path, line: int, column: str, message: str, *, hint: str = "") -> DataError:
    return DataError(f"{path}:{line}: {column}: {message}", hint=hint)
