"""What the verbs around the feedback store share: where it is, and files read and written."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from xlmr.errors import DataError
from xlmr.feedback.opening import open_store
from xlmr.feedback.store import Store
from xlmr.settings import Settings
from xlmr.wholly import appearing

DAY_US = 86_400_000_000
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextlib.contextmanager
def opened(place: dict[str, Any]) -> Iterator[Store]:
    """The feedback store, closed at the end."""
    with contextlib.closing(open_store(Settings.from_environment(**place))) as store:
        yield store


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Writes a file whole or not at all; how many lines.

    Raises:
        DataError: it cannot be written.
    """
    written = 0
    try:
        with appearing(path) as file:
            for line in lines:
                file.write(f"{line}\n".encode())
                written += 1
    except OSError as fault:
        raise DataError(f"{path}: {fault.strerror}") from fault
    return written


def write_out(path: Path, content: str) -> None:
    """Writes a file whole or not at all; as `write_lines`."""
    write_lines(path, content.removesuffix("\n").split("\n"))


def read_json(path: Path) -> Any:
    """What a JSON file says.

    Raises:
        DataError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise DataError(f"{path}: {fault.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise DataError(f"{path}: no JSON") from None
