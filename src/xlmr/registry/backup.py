"""A registry copied to another place, and brought back.

A backup is a store of its own with the catalogue beside it, `catalogue-SEQ.json`, written last.
What is there already is not copied again, so a backup after a backup takes only what is new. Its
name and content hold the journal's last line: an anchor, by which a journal that was written anew
is found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import msgspec

from xlmr.errors import RegistryError
from xlmr.registry.artifacts import Artifacts, tree_key
from xlmr.registry.catalogue import Catalogue
from xlmr.registry.digest import FileEntry
from xlmr.registry.journal import Entry, Head, Line
from xlmr.registry.manifest import Manifest
from xlmr.registry.retention import check_catalogue
from xlmr.registry.store import Store, blob_key
from xlmr.registry.tables import Alias, Version

Progress = Callable[[str, int, int], None]
_FORMAT = 1
_FILE = "catalogue-{:012d}.json"
_FOLDERS = ("signatures", "evidence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A whole catalogue at a moment."""

    versions: tuple[Version, ...]
    aliases: tuple[Alias, ...]
    entries: tuple[Entry, ...]
    head: Head
    format: int = _FORMAT

    @property
    def kept(self) -> list[Version]:
        """Versions whose content is there."""
        return [version for version in self.versions if not version.removed_us]


def backup(
    catalogue: Catalogue, store: Store, target: Store, *, progress: Progress | None = None
) -> Snapshot:
    """Copies a registry; what it copied.

    Raises:
        JournalError: the journal is broken: a copy of it would be worth nothing.
        DigestMismatchError: a file is not what it should be.
        RegistryUnavailableError: something is not there, or one of the stores is away.
    """
    versions, aliases, entries, head = catalogue.whole()
    check_catalogue(versions, aliases, entries, head)
    snapshot = Snapshot(
        versions=tuple(versions), aliases=tuple(aliases), entries=tuple(entries), head=head
    )
    _copy(store, target, snapshot.kept, progress)
    target.put(_FILE.format(head.seq), json.dumps(asdict(snapshot)).encode())
    return snapshot


def restore(
    source: Store,
    catalogue: Catalogue,
    store: Store,
    *,
    actor: str,
    reason: str = "",
    progress: Progress | None = None,
) -> Snapshot:
    """Brings the latest backup back into an empty catalogue and a store; what it brought.

    Killed half-way it leaves the catalogue empty, and may be done again.

    Raises:
        RegistryError: there is no backup, or the catalogue is not empty.
        JournalError: the backup's journal was edited.
        DigestMismatchError: a file of the backup is not what it should be.
    """
    snapshot = latest(source)
    if catalogue.whole()[3].seq:
        raise RegistryError("the catalogue is not empty", hint="restore into a new one")
    _copy(source, store, snapshot.kept, progress)
    with catalogue.change() as change:
        change.load(snapshot.versions, snapshot.aliases, snapshot.entries)
        line = f"a backup of line {snapshot.head.seq}{f': {reason}' if reason else ''}"
        change.note(Line(actor=actor, action="restore", reason=line))
    return snapshot


def latest(source: Store) -> Snapshot:
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
        snapshot = msgspec.json.decode(data, type=Snapshot)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise RegistryError(f"{max(names)}: no catalogue: {fault}") from None
    if snapshot.format != _FORMAT:
        raise RegistryError(f"{max(names)}: format {snapshot.format}, expected {_FORMAT}")
    check_catalogue(snapshot.versions, snapshot.aliases, snapshot.entries, snapshot.head)
    return snapshot


def _copy(
    source: Store, target: Store, versions: Sequence[Version], progress: Progress | None
) -> None:
    """Copies what versions are made of: blobs first, manifests last."""
    manifests = {version.digest: Artifacts(source).manifest(version) for version in versions}
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
