"""SHA-256 of model files, remembered by path, size and modification time.

Hashing two gigabytes takes seconds; a server that restarts need not do it again. The memory is one
small JSON file, replaced whole, and safe to delete.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

from xlmr.errors import WeightsError


class Digests:
    """Digests of files, remembered in `cache_dir/digests.json`; None remembers nothing."""

    def __init__(self, cache_dir: Path | None) -> None:
        self._memory = None if cache_dir is None else cache_dir / "digests.json"

    def of(self, path: Path) -> str:
        """SHA-256 of a file's content, hex.

        Raises:
            WeightsError: the file cannot be read.
        """
        try:
            status = path.stat()
            stamp = [status.st_size, status.st_mtime_ns]
            name = str(path.resolve())
            match self._recall().get(name):
                case [int(size), int(modified), str(digest)] if [size, modified] == stamp:
                    return digest
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as fault:
            raise WeightsError(f"{path}: cannot be read ({fault.strerror})") from fault
        self._remember(name, [*stamp, digest])
        return digest

    def _recall(self) -> dict[str, list[int | str]]:
        if self._memory is None:
            return {}
        try:
            remembered = json.loads(self._memory.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return remembered if isinstance(remembered, dict) else {}

    def _remember(self, name: str, entry: list[int | str]) -> None:
        if self._memory is None:
            return
        # Two processes may write at once: one entry may be lost, which costs a hash, no more.
        entries = {n: e for n, e in self._recall().items() if Path(n).exists()} | {name: entry}
        # A cache that cannot be written (a read-only disk) slows the next start and nothing else.
        with contextlib.suppress(OSError):
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=self._memory.parent, prefix=".digests-")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(entries, file, indent=1, sort_keys=True)
            os.replace(draft, self._memory)
