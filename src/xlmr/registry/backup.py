"""A registry copied to another place, and brought back.

A backup is a store of its own with the catalogue beside it, `catalogue-SEQ.json`, written last.
What is there already is not copied again, so a backup after a backup takes only what is new. Its
name and content hold the journal's last line: an anchor, by which a journal that was written anew
is found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict

import msgspec

from xlmr.errors import RegistryError
from xlmr.registry.artifacts import Artifacts, tree_key
from xlmr.registry.catalogue import Catalogue
from xlmr.registry.digest import FileEntry
from xlmr.registry.journal import Line
from xlmr.registry.manifest import Manifest
from xlmr.registry.store import Store, blob_key
from xlmr.registry.whole import Whole

Progress = Callable[[str, int, int], None]
_FORMAT = 2
_FILE = "catalogue-{:012d}.json"
_FOLDERS = ("signatures", "evidence")


class _Written(msgspec.Struct):
    """What lies in a backup; the catalogue is read once the format is known."""

    format: int
    catalogue: msgspec.Raw = msgspec.Raw()


def backup(
    catalogue: Catalogue, store: Store, target: Store, *, progress: Progress | None = None
) -> Whole:
    """Copies a registry; what it copied.

    Raises:
        JournalError: the journal is broken: a copy of it would be worth nothing.
        DigestMismatchError: a file is not what it should be.
        RegistryUnavailableError: something is not there, or one of the stores is away.
    """
    whole = catalogue.whole()
    whole.check()
    _copy(store, target, whole, progress)
    written = {"format": _FORMAT, "catalogue": asdict(whole)}
    target.put(_FILE.format(whole.head.seq), json.dumps(written).encode())
    return whole


def restore(
    source: Store,
    catalogue: Catalogue,
    store: Store,
    *,
    actor: str,
    reason: str = "",
    progress: Progress | None = None,
) -> Whole:
    """Brings the latest backup back into an empty catalogue and a store; what it brought.

    Killed half-way it leaves the catalogue empty, and may be done again.

    Raises:
        RegistryError: there is no backup, or the catalogue is not empty.
        JournalError: the backup's journal was edited.
        DigestMismatchError: a file of the backup is not what it should be.
    """
    whole = latest(source)
    if catalogue.whole().head.seq:
        raise RegistryError("the catalogue is not empty", hint="restore into a new one")
    _copy(source, store, whole, progress)
    with catalogue.change() as change:
        change.load(whole)
        line = f"a backup of line {whole.head.seq}{f': {reason}' if reason else ''}"
        change.note(Line(actor=actor, action="restore", reason=line))
    return whole


def latest(source: Store) -> Whole:
    """The latest backup in a place.

    Raises:
        RegistryError: there is none, or it is none.
        JournalError: its journal was edited.
    """
    names = [kept.key for kept in source.list("") if kept.key.startswith("catalogue-")]
    data = source.get(max(names)) if names else None
    if data is None:
        raise RegistryError("there is no backup in this place")
    try:
        written = msgspec.json.decode(data, type=_Written)
        if written.format != _FORMAT:
            raise RegistryError(f"{max(names)}: format {written.format}, expected {_FORMAT}")
        whole = msgspec.json.decode(written.catalogue, type=Whole)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise RegistryError(f"{max(names)}: no catalogue: {fault}") from None
    whole.check()
    return whole


def _copy(source: Store, target: Store, whole: Whole, progress: Progress | None) -> None:
    """Copies what versions are made of: blobs first, manifests last."""
    manifests = {version.digest: Artifacts(source).manifest(version) for version in whole.kept}
    files = _files(manifests.values())
    total, done = sum(entry.size for entry in files), 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress("copying", done, total)

    for entry in files:
        if not target.copy_blob(entry, source, progress=advance):
            advance(entry.size)
    for folder in _FOLDERS:
        there = {kept.key for kept in target.list(folder)}
        for kept in source.list(folder):
            data = None if kept.key in there else source.get(kept.key)
            if data is not None:
                target.put(kept.key, data)
    for manifest in manifests.values():
        target.put(tree_key(manifest.digest), manifest.to_bytes())


def _files(manifests: Iterable[Manifest]) -> list[FileEntry]:
    """Every content once."""
    by_key: dict[str, FileEntry] = {}
    for manifest in manifests:
        for entry in manifest.files:
            by_key.setdefault(blob_key(entry.sha256), entry)
    return list(by_key.values())
