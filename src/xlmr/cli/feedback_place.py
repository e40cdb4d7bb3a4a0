"""What the verbs around the feedback store share: where it is, moments, and files written whole."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from xlmr.errors import DataError, SettingsError
from xlmr.feedback.opening import open_store
from xlmr.feedback.store import Store
from xlmr.settings import Settings

DAY_US = 86_400_000_000
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextlib.contextmanager
def opened(place: dict[str, Any]) -> Iterator[Store]:
    """The feedback store, closed at the end."""
    with contextlib.closing(open_store(Settings.from_environment(**place))) as store:
        yield store


def moment_us(said: str) -> int:
    """A moment as people write it, in microseconds since 1970 UTC.

    Raises:
        SettingsError: it is none.
    """
    try:
        at = datetime.fromisoformat(said)
    except ValueError:
        raise SettingsError(
            f"{said!r} is no time", hint="for example 2024-03-05 or 2024-03-05T14:30:00+01:00"
        ) from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e6)


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Writes a file whole or not at all; how many lines.

    Raises:
        DataError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    written = 0
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            for line in lines:
                file.write(line + "\n")
                written += 1
        unfinished.replace(path)
    except OSError as fault:
        raise DataError(f"{path}: {fault.strerror}") from fault
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return written


def write_whole(path: Path, content: str) -> None:
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
