"""Files that appear whole or not at all, and stay so if the power goes."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, that takes its place at the end of the block; on any fault it never does.

    Two who write the same at once do not mix: who ends last stays. What is killed leaves its draft,
    `.NAME.….partial`, beside.

    Raises:
        OSError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with beside.open("xb") as file:
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
