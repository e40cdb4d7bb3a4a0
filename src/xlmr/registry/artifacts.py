"""A version's artifacts in a store: its files, its manifest, its signatures, and gates' reports."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlmr.errors import (
    DigestMismatchError,
    RegistryError,
    RegistryUnavailableError,
    SignatureError,
)
from xlmr.registry.manifest import CARD_FILE, Manifest, license_of
from xlmr.registry.promotion import canonical, evidence_digest
from xlmr.registry.signature import Signer, Trusted, check_covers, check_signed, not_signed
from xlmr.registry.store import Store
from xlmr.registry.tables import Version

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Verified:
    """What a check of a version found: it is whole.

    Attributes:
        signed_by: id of the trusted key that signed it; empty where no key was given to check by.
    """

    version: Version
    files: int
    size_bytes: int
    signed_by: str


def tree_key(digest: str) -> str:
    """Where a tree's manifest lies."""
    return f"trees/{digest}.json"


def signature_key(digest: str, key_id: str) -> str:
    """Where a key's signature of a tree lies."""
    return f"signatures/{digest}/{key_id}.sig"


class Artifacts:
    """What of a store versions are made of, and whose signatures are made and trusted."""

    def __init__(
        self, store: Store, *, signer: Signer | None = None, trusted: Sequence[Trusted] = ()
    ) -> None:
        self.store = store
        self._signer = signer
        self._trusted = tuple(trusted)

    def put(
        self,
        manifest: Manifest,
        directory: Path,
        *,
        name: str,
        advance: Advance,
        signature: bytes | None = None,
    ) -> None:
        """Stores the files of a manifest, its signatures, and last the manifest itself.

        Args:
            manifest, directory: what, and where it lies.
            name: what it is a version of.
            advance: told of bytes.
            signature: somebody's, beside ours.

        Raises:
            SignatureError: the signature is on other files.
            DigestMismatchError: a file is no longer the one that was hashed.
            RegistryUnavailableError: the store is full or away.
        """
        if signature is not None:
            check_covers(manifest, signature)
        for entry in manifest.files:
            if not self.store.put_blob(entry, directory / entry.path, progress=advance):
                advance(entry.size)
        if signature is not None:
            # By its content, not by the key it names: it may name a key and be somebody else's.
            content = hashlib.sha256(signature).hexdigest()
            self.store.put(signature_key(manifest.digest, content), signature)
        if self._signer is not None:
            ours = self._signer.sign(manifest.files, name=name)
            self.store.put(signature_key(manifest.digest, self._signer.key_id), ours)
        self.store.put(tree_key(manifest.digest), manifest.to_bytes())

    def read(self, manifest: Manifest, path: str) -> bytes:
        """A small file of a version; empty where it has none of that name.

        Raises:
            DigestMismatchError, RegistryUnavailableError: as `Store.read_blob`.
        """
        entry = manifest.file(path)
        return self.store.read_blob(entry) if entry is not None else b""

    def verify(self, version: Version, manifest: Manifest, *, advance: Advance) -> Verified:
        """Reads all of a version and checks it.

        Raises:
            DigestMismatchError, RegistryError: it is not whole; the file is named.
            SignatureError: see `signature`.
        """
        signed_by, _ = self.signature(version, manifest)
        for entry in manifest.files:
            self.store.check_blob(entry, progress=advance)
        self._check_described(manifest)
        return Verified(version, len(manifest.files), manifest.size_bytes, signed_by)

    def write(
        self,
        manifest: Manifest,
        directory: Path,
        *,
        beside: Mapping[str, bytes],
        advance: Advance,
    ) -> None:
        """Writes the files of a version into an empty directory, and what lies beside them.

        Raises:
            DigestMismatchError, RegistryUnavailableError: as `Store.fetch_blob`.
        """
        for entry in manifest.files:
            target = directory / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            self.store.fetch_blob(entry, target, progress=advance)
        for name, content in beside.items():
            (directory / name).write_bytes(content)

    def _check_described(self, manifest: Manifest) -> None:
        """That a manifest tells of lineage and licence what the version's own files say."""
        try:
            extras = json.loads(self.read(manifest, "xlmr.json") or b"{}")
        except (ValueError, RecursionError):
            extras = {}
        lineage = extras.get("lineage") if isinstance(extras, dict) else None
        told = lineage if isinstance(lineage, dict) else {}
        licensed = license_of(self.read(manifest, CARD_FILE))
        if dict(manifest.lineage) != told or manifest.license != licensed:
            raise RegistryError(
                f"{tree_key(manifest.digest)}: not the lineage or the licence of its files",
                hint="the manifest was edited; push the version again, and it is written anew",
            )

    def manifest(self, version: Version) -> Manifest:
        """What a version is.

        Raises:
            RegistryError: the store has another manifest than the catalogue promises, or none.
        """
        key = tree_key(version.digest)
        data = self.store.get(key)
        if data is None:
            raise RegistryUnavailableError(f"{key} is not in the store")
        manifest = Manifest.from_bytes(data, origin=key)
        if (manifest.digest, manifest.answers) != (version.digest, version.answers):
            raise RegistryError(f"{key}: not the manifest of {version.name}@{version.version}")
        return manifest

    def missing(self, manifest: Manifest) -> list[str]:
        """What of a version is not there: its files by path, as far as sizes tell."""
        gone = [entry.path for entry in manifest.files if not self.store.has_blob(entry)]
        if self.store.get(tree_key(manifest.digest)) is None:
            gone.append("its manifest")
        return gone

    def check_whole(self, version: Version) -> None:
        """That everything of a version is there and signed, as far as sizes tell.

        Raises:
            DigestMismatchError: something is missing; it is named.
            RegistryError, SignatureError: as `manifest` and `signature`.
        """
        manifest = self.manifest(version)
        self.signature(version, manifest)
        missing = self.missing(manifest)
        if missing:
            raise DigestMismatchError(
                f"{version.name}@{version.version}: {', '.join(missing)} is not in the store",
                hint="push it again from the same directory, or restore a backup",
            )

    def signature(self, version: Version, manifest: Manifest) -> tuple[str, bytes | None]:
        """Which trusted key signed a version, and the signature; without trusted keys, any.

        Raises:
            SignatureError: no trusted key signed exactly these files.
        """
        found = sorted(kept.key for kept in self.store.list(f"signatures/{version.digest}"))
        if not self._trusted:
            return "", self.store.get(found[0]) if found else None
        ours = [signature_key(version.digest, key.id) for key in self._trusted]
        origin, first = f"{version.name}@{version.version}", None
        for key in sorted(found, key=lambda key: key not in ours):
            data = self.store.get(key)
            try:
                return check_signed(manifest, data, self._trusted, origin=origin), data
            except SignatureError as fault:
                first = first or fault
        raise first or not_signed(origin)

    def keep_report(self, report: Mapping[str, Any]) -> str:
        """Stores a gate's report; the digest it is found by."""
        digest = evidence_digest(report)
        self.store.put(f"evidence/{digest}.json", canonical(report))
        return digest
