"""A version's artifacts in a store: its files, its manifest, its signatures, and gates' reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xlmr.errors import RegistryError, RegistryUnavailableError
from xlmr.registry.manifest import Manifest
from xlmr.registry.promotion import canonical, evidence_digest
from xlmr.registry.signature import Signer, TrustedKey, check_signed
from xlmr.registry.store import Store
from xlmr.registry.tables import Version


def tree_key(digest: str) -> str:
    """Where a tree's manifest lies."""
    return f"trees/{digest}.json"


def signature_key(digest: str, key_id: str) -> str:
    """Where a key's signature of a tree lies."""
    return f"signatures/{digest}/{key_id}.sig"


class Artifacts:
    """What of a store versions are made of, and whose signatures are made and trusted."""

    def __init__(
        self, store: Store, *, signer: Signer | None = None, trusted: Sequence[TrustedKey] = ()
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
        advance: Callable[[int], None],
    ) -> None:
        """Stores the files of a manifest, its signature, and last the manifest itself.

        Raises:
            DigestMismatchError: a file is no longer the one that was hashed.
            RegistryUnavailableError: the store is full or away.
        """
        for entry in manifest.files:
            if not self.store.put_blob(entry, directory / entry.path, progress=advance):
                advance(entry.size)
        if self._signer is not None:
            signature = self._signer.sign(manifest.files, name=name)
            self.store.put(signature_key(manifest.digest, self._signer.key_id), signature)
        self.store.put(tree_key(manifest.digest), manifest.to_bytes())

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

    def signature(self, version: Version, manifest: Manifest) -> tuple[str, bytes | None]:
        """Which trusted key signed a version, and the signature; without trusted keys, any.

        Raises:
            SignatureError: no trusted key signed exactly these files.
        """
        found = sorted(kept.key for kept in self.store.list(f"signatures/{version.digest}"))
        if not self._trusted:
            return "", self.store.get(found[0]) if found else None
        ours = [signature_key(version.digest, key.id) for key in self._trusted]
        best = next((key for key in ours if key in found), found[0] if found else "")
        data = self.store.get(best) if best else None
        origin = f"{version.name}@{version.version}"
        return check_signed(manifest, data, self._trusted, origin=origin), data

    def keep_report(self, report: Mapping[str, Any]) -> str:
        """Stores a gate's report; the digest it is found by."""
        digest = evidence_digest(report)
        self.store.put(f"evidence/{digest}.json", canonical(report))
        return digest
