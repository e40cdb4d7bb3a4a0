"""A row before it is known what it should be: named values, and where they stand in which file.

Whatever is wrong with a value is said with file, line and column, never with the value itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from xlmr.errors import DataError


@dataclass(frozen=True, slots=True)
class Record:
    """Named values of one row.

    Attributes:
        path: the file.
        line: where the row starts in it, from 1; of a Parquet file, the number of the row; of a
            SQuAD file, the number of the question.
        values: by the file's own column names.
        within: what leads to the values in a nested file, put before a column's name.
        flat: every value is text, because the format knows nothing else: numbers are parsed, and
            lists are JSON or are parted by `|`.
        names: our name of a column → the file's, where they differ.
    """

    path: Path
    line: int
    values: Mapping[str, object]
    within: str = ""
    flat: bool = False
    names: Mapping[str, str] = field(default_factory=dict)

    def named(self, names: Mapping[str, str]) -> Record:
        """The same record, its columns found under other names."""
        return replace(self, names=names) if names else self

    def has(self, column: str) -> bool:
        """Whether the column is there and neither null nor empty text."""
        return self.values.get(self._name(column)) not in (None, "")

    def __contains__(self, column: str) -> bool:
        return self._name(column) in self.values

    def fault(self, column: str, message: str, *, hint: str = "") -> DataError:
        """The error for a value that cannot be."""
        place = f"{self.path}:" if self.within else f"{self.path}:{self.line}:"
        return DataError(f"{place} {self.within}{self._name(column)}: {message}", hint=hint)

    def value(self, column: str) -> object:
        """Whatever stands there.

        Raises:
            DataError: nothing of that name.
        """
        name = self._name(column)
        if name not in self.values:
            hint = "or call the file <language>.<split>.jsonl" if column == "language" else ""
            raise self.fault(column, "missing", hint=hint)
        return self.values[name]

    def text(self, column: str) -> str:
        """A text with something in it besides blanks."""
        return self.check_text(self.value(column), column)

    def label(self, column: str) -> str:
        """A text without blanks at its ends."""
        return self.text(column).strip()

    def check_text(self, value: object, column: str) -> str:
        """`value` as a text; `column` is what a fault calls it."""
        if not isinstance(value, str):
            raise self.fault(column, f"expected text, got {kind(value)}")
        if not value.strip():
            raise self.fault(column, "expected text, got nothing but blanks")
        if not _encodable(value):
            raise self.fault(column, "half a surrogate pair is not a character")
        return value

    def number(self, column: str) -> float:
        """A finite number."""
        value = self.value(column)
        if self.flat and isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                raise self.fault(column, "expected a number, got text") from None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fault(column, f"expected a number, got {kind(value)}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.fault(column, "expected a number that is finite")
        return number

    def items(self, column: str) -> list[object]:
        """A list."""
        value = self.value(column)
        if self.flat and isinstance(value, str):
            value = self._parsed(column, value)
        if not isinstance(value, list):
            raise self.fault(column, f"expected a list, got {kind(value)}")
        return value

    def texts(self, column: str) -> tuple[str, ...]:
        """A list of texts, perhaps an empty one."""
        items = self.items(column)
        return tuple(self.check_text(item, f"{column}[{i}]") for i, item in enumerate(items))

    def _parsed(self, column: str, cell: str) -> object:
        """A cell as a list: JSON where it begins like that, else parted by `|`."""
        if not cell.strip().startswith(("[", "{")):
            return [part.strip() for part in cell.split("|") if part.strip()]
        try:
            parsed: object = json.loads(cell)
        except (ValueError, RecursionError):
            raise self.fault(column, "expected a list, got text that is not JSON") from None
        return parsed

    def _name(self, column: str) -> str:
        """The file's name of a column; `tags[3]` keeps its place in the list."""
        ours, bracket, place = column.partition("[")
        return self.names.get(ours, ours) + bracket + place


def kind(value: object) -> str:
    """What a value is, in words, without saying it."""
    if value is None:
        return "null"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return kinds.get(type(value), "an object")


def parse_json(path: Path, line: int, content: str) -> object:
    """Parses JSON that begins on `line` of a file.

    Raises:
        DataError: it is none; the message says where, without quoting it.
    """
    try:
        value: object = json.loads(content)
    except RecursionError:
        raise DataError(f"{path}:{line}: nested too deeply") from None
    except json.JSONDecodeError as fault:
        line += fault.lineno - 1
        raise DataError(f"{path}:{line}: not JSON (character {fault.colno})") from None
    except ValueError:  # a number of thousands of digits
        raise DataError(f"{path}:{line}: not JSON (character 1)") from None
    return value


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
