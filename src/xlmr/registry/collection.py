"""What nothing names is removed: versions in the catalogue first, then files no version has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from xlmr.registry.artifacts import Artifacts, tree_key
from xlmr.registry.catalogue import Catalogue
from xlmr.registry.journal import Line
from xlmr.registry.retention import removable
from xlmr.registry.store import Kept, blob_key
from xlmr.registry.tables import Version


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed, or would be: versions, blobs and their bytes, drafts."""

    versions: tuple[Version, ...]
    blobs: int
    size_bytes: int
    drafts: int


def collect(
    catalogue: Catalogue,
    artifacts: Artifacts,
    *,
    actor: str,
    days: float,
    grace: timedelta,
    now: datetime,
    dry: bool = False,
) -> Collected:
    """Removes versions that neither an alias, a route, a way back nor the journal of `days` names.

    Args:
        catalogue, artifacts: from where.
        actor: who does it, for the journal.
        days: what the journal names within so many days stays.
        grace: files and drafts written within it stay: somebody may be pushing.
        now: the time.
        dry: only tell.

    Raises:
        RegistryError: a manifest cannot be read: then nothing is known to be needless.
    """
    with catalogue.change() as change:
        now_us = int(now.timestamp() * 1_000_000)
        doomed = removable(
            change.versions(),
            change.aliases(),
            change.entries(),
            now_us=now_us,
            days=days,
            routed=change.routed(),
        )
        reason = f"no alias and no line of the last {days:g} days names it"
        for version in () if dry else doomed:
            line = Line(
                actor=actor,
                action="remove",
                name=version.name,
                version=version.version,
                digest=version.digest,
                reason=reason,
            )
            change.mark_removed(version.name, version.version, change.note(line).at_us)
    removed = _remove_files(catalogue, artifacts, now - grace, doomed if dry else (), dry=dry)
    drafts = 0 if dry else artifacts.store.sweep(now - grace)
    return Collected(tuple(doomed), len(removed), sum(blob.size for blob in removed), drafts)


def _remove_files(
    catalogue: Catalogue,
    artifacts: Artifacts,
    before: datetime,
    doomed: Sequence[Version],
    *,
    dry: bool,
) -> list[Kept]:
    """Removes what no version has, while nobody can add one; the blobs of it."""
    store = artifacts.store
    with catalogue.change() as change:
        kept = [v for v in change.versions() if not v.removed_us and v not in doomed]
        trees = {version.digest for version in kept}
        needed = {tree_key(digest) for digest in trees}
        for version in kept:
            needed |= {blob_key(entry.sha256) for entry in artifacts.manifest(version).files}
        blobs = [b for b in store.list("blobs") if b.key not in needed and b.modified < before]
        others = [t for t in store.list("trees") if t.key not in needed and t.modified < before]
        for signature in store.list("signatures"):
            if signature.key.split("/")[1] not in trees and signature.modified < before:
                others.append(signature)
        if not dry:
            store.remove(kept.key for kept in (*others, *blobs))
    return blobs
