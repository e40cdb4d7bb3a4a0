"""Artifacts in any store fsspec knows: a directory, S3, GCS, …; written whole or not at all.

    blobs/ab/abcd…        a file of a model, by its SHA-256: kept once for all versions
    trees/DIGEST.json     a manifest, by the digest of its tree
    signatures/DIGEST/KEY.sig
    evidence/SHA.json     a gate's report
    drafts/…              being written; what a killed process left there is swept away later

Object stores show an object only when it is complete. Elsewhere everything is written as a draft,
synced, and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from xlmr.errors import (
    DigestMismatchError,
    MissingExtraError,
    RegistryError,
    RegistryUnavailableError,
)
from xlmr.registry.digest import FileEntry
from xlmr.registry.envelope import Envelope, is_sealed, sealed_size

# Named points between writes: a test kills its process at each of them.
Step = Callable[[str], None]
Progress = Callable[[str, int, int], None]

_CHUNK = 1024 * 1024
_DRAFTS = "drafts"
# Whose objects appear when their upload is completed, and not before.
_WHOLE_AT_CLOSE = frozenset(("s3", "s3a", "gs", "gcs"))
_EXTRAS = {"s3": "s3", "s3a": "s3"}


def no_step(name: str) -> None:
    """Nothing happens between two writes."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Something in the store: its key, its size in bytes, and when it was written."""

    key: str
    size: int
    modified: datetime


def blob_key(sha256: str) -> str:
    """Where a file's content lies."""
    return f"blobs/{sha256[:2]}/{sha256}"


class Store:
    """A place for artifacts, by fsspec URL; a plain path is a directory."""

    def __init__(
        self,
        url: str,
        *,
        envelope: Envelope | None = None,
        step: Step = no_step,
        options: dict[str, Any] | None = None,
    ) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise MissingExtraError("fsspec", extra="registry") from None
        protocol = url.partition("://")[0] if "://" in url else "file"
        try:
            self._fs, root = url_to_fs(url, use_listings_cache=False, **(options or {}))
        except ImportError:
            extra = _EXTRAS.get(protocol, "registry")
            raise MissingExtraError(f"fsspec's store for {protocol}://", extra=extra) from None
        except ValueError as fault:
            raise RegistryError(f"{protocol}://: {fault}") from None
        self._root = str(root).rstrip("/")
        self._faults = _faults_of(protocol)
        self._local = protocol in ("file", "local")
        self._whole_at_close = protocol in _WHOLE_AT_CLOSE
        self._envelope = envelope
        self._step = step

    def put_blob(
        self, entry: FileEntry, source: Path, *, progress: Callable[[int], None] | None = None
    ) -> bool:
        """Stores a file, unless its content is there already; whether it was written.

        Raises:
            DigestMismatchError: it is no longer the file that was hashed.
            RegistryUnavailableError: the store is full or away.
        """
        if self.has_blob(entry):
            return False
        with source.open("rb") as file:
            hint = "it changed since it was read first; push again"
            chunks = _checked(_chunks(file), entry, str(source), progress, hint=hint)
            self._write_blob(entry, chunks)
        return True

    def copy_blob(
        self, entry: FileEntry, source: Store, *, progress: Callable[[int], None] | None = None
    ) -> bool:
        """As `put_blob`, from another store; each may be sealed with a key of its own.

        Raises:
            DigestMismatchError, RegistryUnavailableError: as `put_blob` and `fetch_blob`.
        """
        if self.has_blob(entry):
            return False
        self._write_blob(entry, source._content(entry, progress))
        return True

    def fetch_blob(
        self, entry: FileEntry, target: Path, *, progress: Callable[[int], None] | None = None
    ) -> None:
        """Writes a file's content to `target`, checked on the way.

        Raises:
            DigestMismatchError: the store's content is not what it should be.
            RegistryUnavailableError: it is not there, or the store is away.
        """
        with self._translated(f"{entry.path}, or its copy in the store"), target.open("xb") as out:
            for chunk in self._content(entry, progress):
                out.write(chunk)

    def check_blob(
        self, entry: FileEntry, *, progress: Callable[[int], None] | None = None
    ) -> None:
        """Reads a file's content and checks it.

        Raises:
            DigestMismatchError, RegistryUnavailableError: as `fetch_blob`.
        """
        with self._translated(f"{entry.path} in the store"):
            for _ in self._content(entry, progress):
                pass

    def read_blob(self, entry: FileEntry) -> bytes:
        """A file's content, for a small one.

        Raises:
            DigestMismatchError, RegistryUnavailableError: as `fetch_blob`.
        """
        with self._translated(f"{entry.path} in the store"):
            return b"".join(self._content(entry, None))

    def has_blob(self, entry: FileEntry) -> bool:
        """Whether a file's content is there, as far as its size tells."""
        with self._translated("the store"):
            try:
                size = self._fs.info(self._at(blob_key(entry.sha256)))["size"]
            except FileNotFoundError:
                return False
        return size in (entry.size, sealed_size(entry.size))

    def put(self, key: str, data: bytes) -> None:
        """Stores a small thing under a key, in the place of what was there."""
        self._write(key, [data])

    def get(self, key: str) -> bytes | None:
        """What lies under a key; None for nothing."""
        with self._translated(key):
            try:
                return bytes(self._fs.cat_file(self._at(key)))
            except FileNotFoundError:
                return None

    def list(self, folder: str) -> Iterator[Kept]:
        """Everything below a folder."""
        with self._translated(folder):
            try:
                found = self._fs.find(self._at(folder), detail=True)
            except FileNotFoundError:
                return
        for name, told in sorted(found.items()):
            key = str(name).removeprefix(self._root).lstrip("/")
            yield Kept(key, int(told["size"]), _modified(told))

    def remove(self, keys: Iterable[str]) -> None:
        """Removes what lies under keys; what is gone already is no fault."""
        for key in keys:
            with self._translated(key), contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._at(key))

    def sweep(self, before: datetime) -> int:
        """Removes drafts last written before a moment; how many there were."""
        old = [kept.key for kept in self.list(_DRAFTS) if kept.modified < before]
        self.remove(old)
        return len(old)

    def _content(self, entry: FileEntry, progress: Callable[[int], None] | None) -> Iterator[bytes]:
        origin = f"{entry.path} in the store"
        with self._fs.open(self._at(blob_key(entry.sha256)), "rb") as file:
            start = file.read(_CHUNK)
            chunks = _after(start, file)
            if is_sealed(start) and self._envelope is not None:
                chunks = self._envelope.open(chunks, origin=origin)
            elif is_sealed(start):
                raise RegistryError(f"{origin}: sealed", hint="give the key it was sealed with")
            hint = f"remove {blob_key(entry.sha256)} from the store, and push the same files again"
            yield from _checked(chunks, entry, origin, progress, hint=hint)

    def _write_blob(self, entry: FileEntry, chunks: Iterator[bytes]) -> None:
        sealed = self._envelope.seal(chunks) if self._envelope is not None else chunks
        self._write(blob_key(entry.sha256), sealed)

    def _write(self, key: str, chunks: Iterable[bytes]) -> None:
        path = self._at(key)
        with self._translated(key):
            if self._whole_at_close:
                self._upload(path, chunks)
            else:
                self._write_and_rename(path, chunks)
        self._step(f"stored {key.partition('/')[0]}")

    def _upload(self, path: str, chunks: Iterable[bytes]) -> None:
        file = self._fs.open(path, "wb", autocommit=False)
        try:
            for chunk in chunks:
                file.write(chunk)
            file.close()
            self._step("uploaded")
            file.commit()
        except BaseException:
            # Closing would complete what was uploaded so far.
            file.closed = True
            file.discard()
            raise

    def _write_and_rename(self, path: str, chunks: Iterable[bytes]) -> None:
        draft = self._at(f"{_DRAFTS}/{secrets.token_hex(8)}")
        self._fs.makedirs(draft.rpartition("/")[0], exist_ok=True)
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            with self._fs.open(draft, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                    self._step("drafting")
                if self._local:
                    file.flush()
                    os.fsync(file.fileno())
            self._step("drafted")
            if self._local:
                os.replace(draft, path)
                _sync_directory(Path(path).parent)
            else:
                self._fs.mv(draft, path)
        except BaseException:
            with contextlib.suppress(*self._faults):
                self._fs.rm_file(draft)
            raise

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as fault:
            raise RegistryUnavailableError(f"{what}: not there") from fault
        except self._faults as fault:
            number = getattr(fault, "errno", None)
            if number in (errno.ENOSPC, errno.EDQUOT):
                raise RegistryUnavailableError(
                    f"{what}: no space left", hint="free some space; nothing was kept of this file"
                ) from fault
            said = getattr(fault, "strerror", None) or fault
            raise RegistryUnavailableError(f"{what}: {said}") from fault

    def _at(self, key: str) -> str:
        return f"{self._root}/{key}"


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _after(start: bytes, file: BinaryIO) -> Iterator[bytes]:
    yield start
    yield from _chunks(file)


def _checked(
    chunks: Iterable[bytes],
    entry: FileEntry,
    origin: str,
    progress: Callable[[int], None] | None,
    *,
    hint: str,
) -> Iterator[bytes]:
    """The same chunks; ends in an error unless they were the promised content."""
    seen = hashlib.sha256()
    for chunk in chunks:
        seen.update(chunk)
        if progress is not None:
            progress(len(chunk))
        yield chunk
    if seen.hexdigest() != entry.sha256:
        raise DigestMismatchError(f"{origin}: not the content it should be", hint=hint)


def _modified(told: dict[str, Any]) -> datetime:
    for name in ("LastModified", "mtime", "created", "updated"):
        moment = told.get(name)
        if isinstance(moment, datetime):
            return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        if isinstance(moment, int | float):
            return datetime.fromtimestamp(moment, UTC)
    # A store that does not tell: nothing in it is ever old enough to be swept away.
    return datetime.max.replace(tzinfo=UTC)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _faults_of(protocol: str) -> tuple[type[Exception], ...]:
    """What a store raises when it is away; S3's client has faults of its own for that."""
    if protocol in ("s3", "s3a"):
        faults = importlib.import_module("botocore.exceptions")
        return OSError, faults.BotoCoreError, faults.ClientError
    return (OSError,)
