"""CSV and TSV: the first line names the columns.

CSV quotes as spreadsheets do, line breaks in a cell included. TSV knows no quotes: a line is a row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from xlmr.errors import DataError
from xlmr.evaluation.suites.record import Record


def csv_records(path: Path, content: str, columns: Sequence[str]) -> Iterator[Record]:
    """The rows of a CSV file.

    Raises:
        DataError: one of `columns` is not there exactly once, or a line is not CSV.
    """
    return _records(path, _csv_lines(path, content), columns)


def tsv_records(path: Path, content: str, columns: Sequence[str]) -> Iterator[Record]:
    """The rows of a TSV file.

    Raises:
        DataError: one of `columns` is not there exactly once, or a line has too many fields.
    """
    return _records(path, _tsv_lines(content), columns)


def _csv_lines(path: Path, content: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    line = 1
    try:
        for fields in reader:
            yield line, fields
            line = reader.line_num + 1
    except csv.Error as fault:
        raise DataError(f"{path}:{line}: not CSV ({fault})") from None


def _tsv_lines(content: str) -> Iterator[tuple[int, list[str]]]:
    for line, said in enumerate(content.split("\n"), start=1):
        bare = said.removesuffix("\r")
        yield line, bare.split("\t") if bare else []


def _records(
    path: Path, lines: Iterator[tuple[int, list[str]]], columns: Sequence[str]
) -> Iterator[Record]:
    header: list[str] | None = None
    for line, fields in lines:
        if header is None:
            header = [name.strip() for name in fields]
            _check_header(path, header, columns)
        elif len(fields) > len(header):
            raise DataError(f"{path}:{line}: {len(fields)} fields under {len(header)} columns")
        elif fields:
            yield Record(path, line, dict(zip(header, fields, strict=False)), flat=True)


def _check_header(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    for column in columns:
        if header.count(column) != 1:
            raise DataError(
                f"{path}:1: {column}: expected one column of that name, got {header.count(column)}",
                hint=f"the first line names the columns: {','.join((*columns, 'language'))}",
            )
