"""JSONL: one JSON object a line. And plain text: one text a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xlmr.errors import DataError
from xlmr.evaluation.suites.record import Record, kind, parse_json


def jsonl_records(path: Path, content: str) -> Iterator[Record]:
    """The objects of a file; empty lines are passed over.

    Raises:
        DataError: a line is not a JSON object.
    """
    # Not splitlines(): it also cuts at U+2028 and others, which JSON allows inside a string.
    for line, said in enumerate(content.split("\n"), start=1):
        if not said.strip():
            continue
        value = parse_json(path, line, said)
        if not isinstance(value, dict):
            raise DataError(f"{path}:{line}: expected an object, got {kind(value)}")
        yield Record(path, line, value)


def text_records(path: Path, content: str) -> Iterator[Record]:
    """The lines of a file, each under `text`; lines of blanks are passed over."""
    for line, said in enumerate(content.split("\n"), start=1):
        if said.strip():
            yield Record(path, line, {"text": said.removesuffix("\r")})
