"""Files that appear whole or not at all, and stay so if the power goes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, that takes its place at the end of the block; on any fault it never does.

    Raises:
        OSError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.partial")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file that appears whole.

    Raises:
        OSError: it cannot be written.
    """
    with appearing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
