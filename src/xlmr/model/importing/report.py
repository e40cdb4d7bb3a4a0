"""What an import did, as a value: nothing is left out silently."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, weight or setting of the source that the result does not have, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file of the result: its path within the directory, its SHA-256 in hex, its size."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        source: the directory or hub id it came from.
        revision: the hub's commit; None for a directory.
        out: the directory written.
        files: everything in it, by name.
        downloaded: what came from the hub, with the digests found; empty for a directory.
        converted: what was changed on the way, in words.
        skipped: what was left out, and why.
        warnings: what to know before using the model.
    """

    source: str
    revision: str | None
    out: Path
    files: tuple[WrittenFile, ...]
    downloaded: tuple[WrittenFile, ...]
    converted: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]


@dataclass(slots=True)
class Notes:
    """What the steps of an import have to say; they add to it as they go."""

    converted: list[str]
    skipped: list[Skipped]
    warnings: list[str]

    @classmethod
    def empty(cls) -> Notes:
        """Nothing said yet."""
        return cls([], [], [])

    def convert(self, what: str) -> None:
        """Something was changed."""
        self.converted.append(what)

    def skip(self, name: str, reason: str) -> None:
        """Something was left out."""
        self.skipped.append(Skipped(name, reason))

    def warn(self, what: str) -> None:
        """Something the user should know."""
        self.warnings.append(what)


def list_files(out: Path, *, known: Mapping[str, str]) -> list[WrittenFile]:
    """Every file below a directory, by name; digests that are `known` are not computed again."""
    files: list[WrittenFile] = []
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = path.relative_to(out).as_posix()
        digest = known.get(name)
        if digest is None:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        files.append(WrittenFile(name, digest, path.stat().st_size))
    return files
