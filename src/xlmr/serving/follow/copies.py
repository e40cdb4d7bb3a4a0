"""Versions of a registry on this machine's disk, by the digest of their tree.

    DIGEST/            a model directory as it was pulled, whole
    .DIGEST.lock       held by the server that pulls it; others wait, and find it there

Several servers share them. One that is killed while it pulls leaves a hidden directory behind,
which the next to pull the same removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from xlmr.errors import RegistryUnavailableError
from xlmr.model.importing.staging import is_model

logger = logging.getLogger("xlmr.serving.follow")

# How long a version stays that no server names any more. Each says by the time of change that it
# does; a rollback to a version that is still here needs no store.
KEEP_S = 86_400.0
_DIGEST = re.compile(r"[0-9a-f]{64}")

# Writes a version as a model directory, in the place of the one that is there.
Pull = Callable[[Path], None]


class Copies:
    """The directory of copies. Every method may be called from any thread."""

    def __init__(self, root: Path, *, keep_s: float = KEEP_S) -> None:
        self._root = root
        self._keep_s = keep_s
        self._doubted: set[str] = set()

    def path(self, digest: str) -> Path:
        """Where a version lies, or will."""
        return self._root / digest

    def bring(self, digest: str, pull: Pull) -> None:
        """Has a version lie in its place, pulled only if it does not or is in doubt.

        Raises:
            XlmrError: it cannot be pulled; what lay there still does.
            RegistryUnavailableError: the directory of copies cannot be written.
        """
        out = self.path(digest)
        if digest not in self._doubted and out.is_dir():
            return
        with self._locked(digest):
            if digest in self._doubted or not out.is_dir():
                for left in self._root.glob(f".{digest}.*.*"):
                    shutil.rmtree(left, ignore_errors=True)
                if out.is_dir() and not is_model(out):
                    shutil.rmtree(out)
                pull(out)
            self._doubted.discard(digest)

    def doubt(self, digest: str) -> None:
        """The copy is not what it should be: it is pulled again before it is used."""
        self._doubted.add(digest)

    def sweep(self, used: Collection[str]) -> None:
        """Removes what no server has used for long; what this one uses is marked."""
        with contextlib.suppress(OSError):
            # What the file system takes for now: it also stamped what lies there.
            os.utime(self._root)
            now = self._root.stat().st_mtime
            for digest in used:
                if self.path(digest).is_dir():
                    os.utime(self.path(digest))
            for path in list(self._root.iterdir()):
                digest = path.name.lstrip(".").partition(".")[0]
                old = path.lstat().st_mtime < now - self._keep_s
                if old and digest not in used and _DIGEST.fullmatch(digest):
                    self._remove(path)

    def _remove(self, path: Path) -> None:
        if not path.is_dir():
            path.unlink(missing_ok=True)
            return
        # Renamed first, so that nobody finds half of it.
        gone = path.with_name(f".{path.name.lstrip('.')}.gone")
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        logger.info("removed the copy %s: no server has named it for long", path.name[:12])

    @contextlib.contextmanager
    def _locked(self, digest: str) -> Iterator[None]:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._root / f".{digest}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as fault:
            raise RegistryUnavailableError(
                f"{self._root}: {fault.strerror}", hint="XLMR_CACHE_DIR must be writable"
            ) from fault
        try:
            # The system gives it up when the process ends, however that ends.
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
