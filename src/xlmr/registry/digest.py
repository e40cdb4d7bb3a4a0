"""The content address of a tree of files. Pure: an iterable of files in, a digest out.

It is the SHA-256 of one line a file, `SHA256 SIZE PATH`, ordered by path: what a directory is, and
neither where it lies, when it was written nor by whom.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from xlmr.errors import RegistryError

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, order=True)
class FileEntry:
    """A file of a tree.

    Attributes:
        path: relative, with `/` between its parts.
        size: in bytes.
        sha256: of its content, hex.
    """

    path: str
    size: int
    sha256: str


def tree_digest(files: Iterable[FileEntry]) -> str:
    """SHA-256, hex; the same for the same files in any order.

    Raises:
        RegistryError: a path that cannot stand in a tree, or stands there twice.
    """
    ordered = sorted(files)
    for entry in ordered:
        check_entry(entry)
    paths = [entry.path for entry in ordered]
    if len(set(paths)) != len(paths):
        raise RegistryError("a tree names a file twice")
    lines = "".join(f"{entry.sha256} {entry.size} {entry.path}\n" for entry in ordered)
    return hashlib.sha256(lines.encode()).hexdigest()


def check_entry(entry: FileEntry) -> None:
    """Refuses what could be written outside its directory, or read as something else.

    Raises:
        RegistryError: it is no plain relative path, its digest is none, or its size is negative.
    """
    parts = entry.path.split("/")
    odd = "\\" in entry.path or ":" in parts[0] or not is_text(entry.path)
    if odd or any(part in ("", ".", "..") for part in parts):
        raise RegistryError(f"{entry.path!r}: not a plain relative path")
    if not _SHA256.fullmatch(entry.sha256):
        raise RegistryError(f"{entry.path}: {entry.sha256!r} is no SHA-256")
    if entry.size < 0:
        raise RegistryError(f"{entry.path}: {entry.size} bytes")


def is_text(said: str) -> bool:
    """Whether a name can be stored and shown anywhere: no control signs, no broken encoding."""
    return not any(ord(sign) < 32 or 0x7F <= ord(sign) < 0xA0 or _half(sign) for sign in said)


def _half(sign: str) -> bool:
    """A byte that was no UTF-8, as Python keeps it in a file's name."""
    return 0xD800 <= ord(sign) < 0xE000
