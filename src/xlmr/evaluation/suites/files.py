"""Files and folders of labelled rows.

The ending of a file says its format. A folder holds `<language>.<split>.jsonl` (or another ending);
the language key stays as the name gives it: `pt-BR`, `spa`, `arb_Arab`. A folder that Hugging
Face's `datasets` saved is read as one file, its split chosen by name. A row that repeats an
earlier one exactly is dropped and counted; one that contradicts an earlier one is kept and counted,
since only the author knows which is right.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

from xlmr.errors import DataError
from xlmr.evaluation.suites.conll import conll_records, conllu_records
from xlmr.evaluation.suites.delimited import csv_records, tsv_records
from xlmr.evaluation.suites.jsonl import jsonl_records, text_records
from xlmr.evaluation.suites.parquet import parquet_records
from xlmr.evaluation.suites.record import Record
from xlmr.evaluation.suites.rows import AnyRow, DataFile, RowT, Table
from xlmr.evaluation.suites.saved import (
    is_saved,
    saved_digest,
    saved_records,
    saved_split,
    split_names,
)
from xlmr.evaluation.suites.schemas import CLASSIFY, Schema
from xlmr.evaluation.suites.squad import squad_records

# What to do with a row at fault: stop there, or leave it out and say so in `Table.refused`.
Faults = Literal["stop", "skip"]

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet", ".conll", ".conllu", ".json", ".txt")
_FILE_NAME = re.compile(r"(?P<language>[a-z]{2,3}([-_][A-Za-z0-9]+)*)\.(?P<split>\w+)\.\w+")


@overload
def read_split(
    place: Path, split: str, *, languages: Sequence[str] = ..., faults: Faults = ...
) -> tuple[DataFile, ...]: ...


@overload
def read_split(
    place: Path,
    split: str,
    schema: Schema[RowT],
    *,
    languages: Sequence[str] = ...,
    faults: Faults = ...,
) -> tuple[Table[RowT], ...]: ...


def read_split(
    place: Path,
    split: str,
    schema: Schema[Any] = CLASSIFY,
    *,
    languages: Sequence[str] = (),
    faults: Faults = "stop",
) -> tuple[Table[Any], ...]:
    """Reads a file, or the files `<language>.<split>.jsonl` of a folder in order of language.

    Args:
        place: a file (then `split` says nothing), a folder of files, or a saved data set.
        split: which files of a folder, or which part of a saved data set: `train`, `dev`, `test`.
        schema: what a row is; text and label where not said.
        languages: keep only these; all where empty.
        faults: whether a row at fault stops the reading or is left out and reported.

    Raises:
        DataError: nothing there, a row at fault, or a file in a folder whose rows are in another
            language than its name says.
        MissingExtraError: a Parquet file, and pyarrow is not installed; or a saved data set, and
            datasets is not.
    """
    if is_saved(_existing(place)):
        files = [_only(read_file(_saved(place, split), schema, faults=faults), languages)]
    elif place.is_file():
        files = [_only(read_file(place, schema, faults=faults), languages)]
    else:
        paths = _paths(place, split, languages)
        files = [_agreeing(read_file(path, schema, faults=faults)) for path in paths]
    if not any(file.rows for file in files):
        raise _nothing(place, split, languages)
    return tuple(file for file in files if file.rows)


@overload
def read_file(path: Path, *, faults: Faults = ...) -> DataFile: ...


@overload
def read_file(path: Path, schema: Schema[RowT], *, faults: Faults = ...) -> Table[RowT]: ...


def read_file(path: Path, schema: Schema[Any] = CLASSIFY, *, faults: Faults = "stop") -> Table[Any]:
    """Reads one file.

    Args:
        path: the file, whose ending says its format; or the folder of a saved data set, or of one
            split of it.
        schema: what a row is; text and label where not said.
        faults: whether a row at fault stops the reading or is left out and reported.

    Raises:
        DataError: the file holds no row, is not UTF-8, of another kind, or a row is at fault. A
            file that cannot be parsed is refused as a whole, whatever `faults` says.
        MissingExtraError: a Parquet file, and pyarrow is not installed; or a saved data set, and
            datasets is not.
    """
    saved = is_saved(path)
    if not saved and path.suffix not in SUFFIXES:
        raise DataError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
    if saved:
        records, sha256 = saved_records(path), saved_digest(path)
    else:
        raw = path.read_bytes()
        records, sha256 = _records(path, raw, schema.file_columns), hashlib.sha256(raw).hexdigest()
    name = _FILE_NAME.fullmatch(path.name)
    language = name["language"] if name else None
    refused: list[str] = []
    rows = list(_rows(records, schema, language, faults, refused))
    if not rows:
        columns = ", ".join(schema.file_columns) or "text or tokens"
        raise DataError(f"{path}: no rows", hint=f"each row needs {columns} and language")
    unique = _unique(rows)
    return Table(
        path=path,
        sha256=sha256,
        rows=tuple(unique),
        duplicates=len(rows) - len(unique),
        contradictions=len(unique) - len({(row.input, row.language) for row in unique}),
        refused=tuple(refused),
    )


def columns_of(place: Path, split: str, *, languages: Sequence[str] = ()) -> frozenset[str]:
    """The columns of the first row there is, by the file's own names.

    Raises:
        DataError: nothing there, or a file that cannot be parsed.
        MissingExtraError: a Parquet file, and pyarrow is not installed.
    """
    if is_saved(place):
        first = next(saved_records(_saved(place, split)), None)
        if first is None:
            raise _nothing(place, split, languages)
        return frozenset(first.values)
    for path in [place] if place.is_file() else _paths(_existing(place), split, languages):
        if path.suffix not in SUFFIXES:
            raise DataError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
        first = next(_records(path, path.read_bytes(), ()), None)
        if first is not None:
            return frozenset(first.values)
    raise _nothing(place, split, languages)


def _rows(
    records: Iterable[Record],
    schema: Schema[RowT],
    language: str | None,
    faults: Faults,
    refused: list[str],
) -> Iterator[RowT]:
    for record in records:
        try:
            yield schema.read(record, language)
        except DataError as fault:
            if faults == "stop":
                raise
            refused.append(fault.message)


def _unique(rows: Sequence[RowT]) -> list[RowT]:
    """The first of every kind, in order."""
    first: dict[object, RowT] = {}
    for row in rows:
        first.setdefault((row.input, row.answer, row.language), row)
    return list(first.values())


def _records(path: Path, raw: bytes, columns: Sequence[str]) -> Iterator[Record]:
    if path.suffix == ".parquet":
        return parquet_records(path, raw)
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = raw.count(b"\n", 0, fault.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8", hint="save the file as UTF-8") from None
    if path.suffix in (".csv", ".tsv"):
        read_table = csv_records if path.suffix == ".csv" else tsv_records
        return read_table(path, content, columns)
    readers = {
        ".jsonl": jsonl_records,
        ".conll": conll_records,
        ".conllu": conllu_records,
        ".json": squad_records,
        ".txt": text_records,
    }
    return readers[path.suffix](path, content)


def _existing(place: Path) -> Path:
    if not place.exists():
        raise DataError(f"{place}: no such file or folder")
    return place


def check_languages(
    files: Sequence[Table[Any]], languages: Sequence[str], place: Path, split: str
) -> None:
    """Refuses files that have no row of a language that somebody asked for.

    Raises:
        DataError: names the languages.
    """
    there = {row.language for file in files for row in file.rows}
    missing = [language for language in languages if language not in there]
    if missing:
        raise _nothing(place, split, missing)


def _nothing(place: Path, split: str, languages: Sequence[str]) -> DataError:
    wanted = f" in {', '.join(languages)}" if languages else ""
    return DataError(
        f"{place}: no rows for {split}{wanted}",
        hint=f"a folder holds files called <language>.{split}.jsonl",
    )


def _saved(place: Path, split: str) -> Path:
    """The part of a saved data set that a split is."""
    found = saved_split(place, split)
    if found is None:
        raise DataError(
            f"{place}: no split {split}", hint=f"there are {', '.join(split_names(place))}"
        )
    return found


def _paths(folder: Path, split: str, languages: Sequence[str]) -> list[Path]:
    named = [(path, _FILE_NAME.fullmatch(path.name)) for path in sorted(folder.iterdir())]
    return [
        path
        for path, name in named
        if name
        and name["split"] == split
        and path.suffix in SUFFIXES
        and (not languages or name["language"] in languages)
    ]


def _only(file: Table[RowT], languages: Sequence[str]) -> Table[RowT]:
    if not languages:
        return file
    return replace(file, rows=tuple(row for row in file.rows if row.language in languages))


def _agreeing(file: Table[RowT]) -> Table[RowT]:
    promised = file.path.name.split(".")[0]
    for row in file.rows:
        if row.language != promised:
            raise _misplaced(file.path, row, promised)
    return file


def _misplaced(path: Path, row: AnyRow, promised: str) -> DataError:
    return DataError(f"{path}:{row.line}: language: the file name promises {promised}")
