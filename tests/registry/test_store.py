"""Artifacts are there whole or not at all, in a directory and in memory, sealed and plain."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest

from xlmr.errors import (
    DigestMismatchError,
    MissingExtraError,
    RegistryError,
    RegistryUnavailableError,
    SettingsError,
)
from xlmr.registry.digest import FileEntry
from xlmr.registry.envelope import Envelope, read_key, sealed_size
from xlmr.registry.store import Store, blob_key

CONTENT = os.urandom(3 * 1024 * 1024 + 17)
KEY = bytes(range(32))


@pytest.fixture(params=["directory", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "store") if request.param == "directory" else "memory://xlmr/store"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(params=["plain", "sealed"])
def envelope(request: pytest.FixtureRequest) -> Envelope | None:
    return Envelope(KEY) if request.param == "sealed" else None


def entry_of(path: Path) -> FileEntry:
    data = path.read_bytes()
    return FileEntry(path.name, len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(CONTENT)
    return path


def test_what_goes_in_comes_out(
    url: str, envelope: Envelope | None, source: Path, tmp_path: Path
) -> None:
    store, entry = Store(url, envelope=envelope), entry_of(source)
    assert not store.has_blob(entry)
    told: list[int] = []
    assert store.put_blob(entry, source, progress=told.append)
    assert sum(told) == entry.size
    assert store.has_blob(entry)
    assert not store.put_blob(entry, source)  # once is enough
    store.check_blob(entry)
    store.fetch_blob(entry, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT
    (kept,) = store.list("blobs")
    assert kept.key == blob_key(entry.sha256)
    assert kept.size == (sealed_size(entry.size) if envelope else entry.size)
    assert abs(kept.modified - datetime.now(UTC)) < timedelta(minutes=5)
    assert not list(store.list("drafts"))


def test_small_things_have_a_key(url: str) -> None:
    store = Store(url)
    assert store.get("trees/x.json") is None
    store.put("trees/x.json", b"one")
    store.put("trees/x.json", b"two")
    assert store.get("trees/x.json") == b"two"
    assert [kept.key for kept in store.list("trees")] == ["trees/x.json"]
    store.remove(["trees/x.json", "trees/never-there.json"])
    assert store.get("trees/x.json") is None
    assert not list(store.list("trees"))


def test_a_file_that_changes_under_way_is_not_kept(
    url: str, envelope: Envelope | None, source: Path
) -> None:
    store, entry = Store(url, envelope=envelope), entry_of(source)
    source.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(DigestMismatchError, match=r"model\.safetensors"):
        store.put_blob(entry, source)
    assert not store.has_blob(entry)
    assert not list(store.list(""))


def test_damage_is_found(tmp_path: Path, envelope: Envelope | None, source: Path) -> None:
    store, entry = Store(str(tmp_path / "store"), envelope=envelope), entry_of(source)
    store.put_blob(entry, source)
    blob = tmp_path / "store" / blob_key(entry.sha256)
    whole = blob.read_bytes()
    for damaged in (whole[:-1], whole + b"x", whole[:2_000_000] + b"?" + whole[2_000_001:]):
        blob.write_bytes(damaged)
        with pytest.raises((DigestMismatchError, RegistryError), match=r"model\.safetensors"):
            store.check_blob(entry)
    blob.unlink()
    with pytest.raises(RegistryUnavailableError, match="not there"):
        store.check_blob(entry)


def test_sealed_content_cannot_be_read_rearranged_or_opened_with_another_key(
    tmp_path: Path, source: Path
) -> None:
    entry = entry_of(source)
    Store(str(tmp_path / "store"), envelope=Envelope(KEY)).put_blob(entry, source)
    blob = tmp_path / "store" / blob_key(entry.sha256)
    whole = blob.read_bytes()
    assert CONTENT[:64] not in whole
    with pytest.raises(RegistryError, match="another key"):
        Store(str(tmp_path / "store"), envelope=Envelope(KEY[::-1])).check_blob(entry)
    with pytest.raises(RegistryError, match="sealed"):
        Store(str(tmp_path / "store")).check_blob(entry)
    head, piece = len(whole) - len(CONTENT) - 4 * 16, 1024 * 1024 + 16
    pieces = [whole[head + i * piece : head + (i + 1) * piece] for i in range(4)]
    for moved in ([1, 0, 2, 3], [0, 1, 2], [0, 1, 3], [0, 0, 1, 2, 3]):
        blob.write_bytes(whole[:head] + b"".join(pieces[i] for i in moved))
        with pytest.raises(RegistryError, match="altered, or cut off"):
            Store(str(tmp_path / "store"), envelope=Envelope(KEY)).check_blob(entry)
    # What was stored before there was a key is still read.
    blob.write_bytes(CONTENT)
    Store(str(tmp_path / "store"), envelope=Envelope(KEY)).check_blob(entry)


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1])
def test_sealing_at_the_edges_of_a_piece(size: int) -> None:
    sealed = b"".join(Envelope(KEY).seal([CONTENT[:size]]))
    assert len(sealed) == sealed_size(size)
    crumbs = [sealed[i : i + 70_001] for i in range(0, len(sealed), 70_001)]
    assert b"".join(Envelope(KEY).open(crumbs, origin="here")) == CONTENT[:size]


def test_a_key_is_text_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY.hex() + "\n")
    assert read_key("", str(path)) == KEY == read_key(KEY.hex(), "")
    assert read_key("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "") == KEY
    assert read_key("", "") is None
    for text, file in (("abc", ""), (KEY.hex(), str(path)), ("", str(tmp_path / "none"))):
        with pytest.raises(SettingsError):
            read_key(text, file)
    with pytest.raises(SettingsError):
        Envelope(b"short")


def test_a_full_disk_keeps_nothing(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, entry = Store(str(tmp_path / "store")), entry_of(source)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RegistryUnavailableError, match="no space left"):
        store.put_blob(entry, source)
    assert not list(store.list(""))


def test_old_drafts_are_swept_away_and_fresh_ones_are_not(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    (tmp_path / "store" / "drafts").mkdir(parents=True)
    old, fresh = (tmp_path / "store" / "drafts" / name for name in ("old", "fresh"))
    for draft in (old, fresh):
        draft.write_text("x")
    os.utime(old, (1, 1))
    assert store.sweep(datetime.now(UTC) - timedelta(days=1)) == 1
    assert fresh.exists()
    assert not old.exists()


def test_a_store_that_is_not_known_says_so() -> None:
    with pytest.raises(RegistryError, match="nowhere://"):
        Store("nowhere://x")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: Any, **options: Any) -> Any:
        raise ImportError("Install s3fs")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(MissingExtraError) as caught:
        Store("s3://bucket/x")
    assert "xlmr[s3]" in caught.value.hint


KILLED = """
import os, signal, sys
from pathlib import Path
from xlmr.registry.digest import FileEntry
from xlmr.registry.store import Store
url, source, sha, size, left = *sys.argv[1:4], int(sys.argv[4]), [int(sys.argv[5])]
def step(name):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
Store(url, step=step).put_blob(FileEntry("f", size, sha), Path(source))
"""


def test_killed_while_writing_leaves_nothing_to_be_seen(tmp_path: Path, source: Path) -> None:
    entry, url = entry_of(source), str(tmp_path / "store")
    for steps in range(20):
        given = [url, str(source), entry.sha256, str(entry.size), str(steps)]
        done = subprocess.run([sys.executable, "-c", KILLED, *given], check=False)
        seen = list(Store(url).list("blobs"))
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        if seen:  # after the rename: whole
            Store(url).check_blob(entry)
            (tmp_path / "store" / seen[0].key).unlink()
    assert steps > 4
    Store(url).check_blob(entry)
    assert Store(url).sweep(datetime.now(UTC) + timedelta(days=1)) >= 4
