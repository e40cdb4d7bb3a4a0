"""Versions handed to others' registries, and taken back as what they were.

A place is `hf:DIRECTORY` or `mlflow:MODEL`. What is handed over is a whole released directory, with
manifest and signature beside the model's files: so what comes back is checked against them, and is
the same version by the same digest.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from xlmr.errors import RegistryError
from xlmr.registry.exchange.card import stand_in_card
from xlmr.registry.lineage import evidence_on
from xlmr.registry.manifest import SIGNATURE_FILE, Manifest, read_manifest
from xlmr.registry.registry import Registry
from xlmr.registry.tables import Version

# Writes a whole released directory, and says whether a model that is there may be replaced.
Write = Callable[[Path, bool], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A version on its way out.

    Attributes:
        version: which one.
        manifest: what it is.
        aliases: what it is called by now.
        evidence: digest of the report it last went live by; empty for none.
    """

    version: Version
    manifest: Manifest
    aliases: tuple[str, ...]
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Where a version is now, and what the place could not take."""

    place: str
    left_out: tuple[str, ...] = ()


class Exchange(Protocol):
    """Another registry.

    Attributes:
        place: what it is called, as it was typed.
    """

    @property
    def place(self) -> str:
        """See above."""

    def send(self, release: Release, write: Write) -> Sent:
        """Hands a version over.

        Raises:
            ModelError, RegistryError: the place is taken, away, or does not allow it.
        """

    def fetch(self) -> AbstractContextManager[Path]:
        """A released directory, for as long as it is open.

        Raises:
            RegistryError: there is none, or the place is away.
            DigestMismatchError: it is not what the place says it is.
        """


def exchange_at(place: str, *, force: bool = False) -> Exchange:
    """The registry at a place.

    Args:
        place: `hf:DIRECTORY` or `mlflow:MODEL`.
        force: whether a directory that is there may be replaced.

    Raises:
        RegistryError: no place that is known.
        MissingExtraError: its client is not installed.
    """
    kind, _, name = place.partition(":")
    if kind == "hf" and name:
        from xlmr.registry.exchange.huggingface import HuggingFaceDirectory

        return HuggingFaceDirectory(Path(name), force=force)
    if kind == "mlflow" and name:
        from xlmr.registry.exchange.mlflow import connect

        return connect(name)
    raise RegistryError(f"{place!r}: no such place", hint="hf:DIRECTORY or mlflow:MODEL")


def export_version(registry: Registry, version: Version, exchange: Exchange) -> Sent:
    """Hands a version over, checked on the way; one without a card gets one for its readers.

    Raises:
        SignatureError, DigestMismatchError, RegistryError: as `Registry.pull` and `Exchange.send`.
    """
    manifest = registry.manifest(version)
    of = (version.name, version.version)
    named = [a.alias for a in registry.catalogue.aliases(version.name) if (a.name, a.version) == of]
    shown = evidence_on(version.version, registry.catalogue.entries(name=version.name))
    release = Release(
        version=version,
        manifest=manifest,
        aliases=tuple(named),
        evidence=shown[-1].evidence if shown else "",
    )

    def write(out: Path, replace: bool) -> None:
        exact = f"{version.name}@{version.version}"
        registry.pull(exact, out, force=replace, card=stand_in_card(version, manifest))

    return exchange.send(release, write)


def import_version(
    registry: Registry, name: str, exchange: Exchange, *, reason: str = ""
) -> Version:
    """Takes a released version in, with its signature, as the next one of a name.

    Raises:
        ForbiddenError: the actor may not push.
        DigestMismatchError: a file is not what its manifest says; it is named.
        SignatureError: the signature that came with it is on other files.
        RegistryError, ModelError: as `Exchange.fetch` and `Registry.push`.
    """
    with exchange.fetch() as directory:
        signature = directory / SIGNATURE_FILE
        return registry.push(
            name,
            directory,
            reason=f"from {exchange.place}{f': {reason}' if reason else ''}",
            promised=read_manifest(directory),
            signature=signature.read_bytes() if signature.is_file() else None,
        )
