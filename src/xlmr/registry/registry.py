"""The registry's verbs, on one page: push, show, verify, pull, alias, rollback, gc.

A version exists once its row is written, which is the last thing a push does; an alias moves in one
transaction with its line in the journal. So a process killed anywhere leaves either what was, or
what should be, and files nobody names, which `gc` removes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from xlmr.errors import (
    DigestMismatchError,
    PromotionError,
    RegistryConflictError,
    RegistryError,
    RegistryUnavailableError,
    VersionNotFoundError,
)
from xlmr.model.importing.staging import build_directory
from xlmr.registry.artifacts import Artifacts
from xlmr.registry.catalogue import Catalogue, Change
from xlmr.registry.collection import Collected, collect
from xlmr.registry.journal import BACK, DROP, FORWARD, Entry, Line, trail, way_back
from xlmr.registry.manifest import MANIFEST_FILE, SIGNATURE_FILE, Manifest, make_manifest
from xlmr.registry.promotion import check_report
from xlmr.registry.retention import check_catalogue
from xlmr.registry.roles import Actor, Role
from xlmr.registry.signature import Signer, TrustedKey
from xlmr.registry.store import Progress, Step, Store, no_step
from xlmr.registry.tables import Version

LIVE = "live"
# Aliases that only somebody who may promote moves, and only with a gate's report.
PROTECTED = frozenset((LIVE,))
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TRIES = 3


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


class Registry:
    """A catalogue, a store, and who acts.

    Attributes:
        catalogue: versions, aliases and the journal.
        store: artifacts.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        store: Store,
        actor: Actor,
        *,
        signer: Signer | None = None,
        trusted: Sequence[TrustedKey] = (),
        cache_dir: Path | None = None,
        progress: Progress | None = None,
        step: Step = no_step,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        actor.must("read")
        self.catalogue = catalogue
        self.store = store
        self._actor = actor
        self._artifacts = Artifacts(store, signer=signer, trusted=trusted)
        self._cache_dir = cache_dir
        self._progress = progress or (lambda doing, done, total: None)
        self._step = step
        self._now = now

    def push(self, name: str, directory: Path, *, reason: str = "") -> Version:
        """Stores a model directory as the next version of a name.

        The same files pushed again are the same version; a signature is added to it.

        Raises:
            ForbiddenError: the actor may not push.
            ModelError: the directory is no model.
            RegistryError: a name that cannot be one, or a store or database that is away.
        """
        self._actor.must("push")
        _check_name(name)
        manifest = make_manifest(directory, cache_dir=self._cache_dir, progress=self._progress)
        for _ in range(_TRIES):
            advance = self._advance("storing", manifest.size_bytes)
            self._artifacts.put(manifest, directory, name=name, advance=advance)
            with self.catalogue.change() as change:
                known = _find(change.versions(name), manifest.digest)
                if known is not None:
                    return known
                # `gc` may have removed a file between our look and this moment; now it waits.
                if not self._artifacts.missing(manifest):
                    return self._add_version(change, name, manifest, reason)
        raise RegistryUnavailableError("files vanish from the store again and again")

    def resolve(self, reference: str) -> Version:
        """The version that `NAME@VERSION` or `NAME@ALIAS` means; `NAME` alone is the live one.

        Raises:
            VersionNotFoundError: there is none, or it was removed.
        """
        name, _, wanted = reference.partition("@")
        wanted = wanted or LIVE
        number = int(wanted) if wanted.isdecimal() else self._alias(name, wanted)
        version = self.catalogue.version(name, number) if number else None
        if version is None:
            known = ", ".join(str(v.version) for v in self.catalogue.versions(name)[-10:])
            raise VersionNotFoundError(
                f"{name}@{wanted}: no such version or alias",
                hint=f"its versions are {known}" if known else "`xlmr registry list` lists all",
            )
        if version.removed_us:
            raise VersionNotFoundError(f"{name}@{number} was removed; the journal tells when")
        return version

    def manifest(self, version: Version) -> Manifest:
        """What a version is.

        Raises:
            RegistryError: the store has another manifest than the catalogue promises, or none.
        """
        return self._artifacts.manifest(version)

    def verify(self, reference: str) -> Verified:
        """Reads all of a version: manifest, signature, every file.

        Raises:
            VersionNotFoundError, RegistryError, DigestMismatchError: it is not whole; the file
                is named.
            SignatureError: trusted keys are given, and none of them signed exactly these files.
        """
        version = self.resolve(reference)
        manifest = self.manifest(version)
        signed_by, _ = self._artifacts.signature(version, manifest)
        advance = self._advance("checking", manifest.size_bytes)
        for entry in manifest.files:
            self.store.check_blob(entry, progress=advance)
        return Verified(version, len(manifest.files), manifest.size_bytes, signed_by)

    def verify_journal(self, *, anchor: tuple[int, str] | None = None) -> int:
        """That the journal is whole, and versions and aliases are what it says; its lines.

        Raises:
            JournalError: a line or a row was edited; it is named.
        """
        return check_catalogue(*self.catalogue.whole(), anchor=anchor)

    def pull(
        self, reference: str, out: Path, *, force: bool = False, plain: bool = False
    ) -> Version:
        """Writes a version as a model directory, checked on the way, whole or not at all.

        Args:
            reference: as `resolve` takes it.
            out: where; nothing is there yet, unless `force` replaces a model.
            force: whether it may replace a model.
            plain: without manifest and signature: only what was pushed.

        Raises:
            SignatureError: trusted keys are given, and none of them signed it.
            ModelError: the target cannot be written.
            RegistryError, DigestMismatchError: as `verify`.
        """
        version = self.resolve(reference)
        manifest = self.manifest(version)
        _, signature = self._artifacts.signature(version, manifest)
        advance = self._advance("pulling", manifest.size_bytes)

        def write(staged: Path) -> None:
            for entry in manifest.files:
                target = staged / entry.path
                target.parent.mkdir(parents=True, exist_ok=True)
                self.store.fetch_blob(entry, target, progress=advance)
            if not plain:
                (staged / MANIFEST_FILE).write_bytes(manifest.to_bytes())
                if signature is not None:
                    (staged / SIGNATURE_FILE).write_bytes(signature)

        build_directory(out, write, force=force)
        return version

    def set_alias(
        self,
        reference: str,
        alias: str,
        *,
        reason: str = "",
        report: Mapping[str, Any] | None = None,
        override: str = "",
        expected: int | None = None,
    ) -> Entry:
        """Points an alias at a version; `live` only with a gate's report on it, or an override.

        Args:
            reference: as `resolve` takes it.
            alias: which one.
            reason: why; goes into the journal.
            report: what `xlmr gate --json` wrote; kept with the version.
            override: why it goes live although no report allows it; stays in the journal for ever.
            expected: the version the alias names now (0 for none), as the caller has seen it.

        Raises:
            ForbiddenError: the actor may not.
            PromotionError: no report allows it.
            SignatureError: trusted keys are given, and none of them signed it.
            RegistryConflictError: somebody else moved the alias meanwhile.
        """
        self._actor.must(_role_for(alias))
        _check_name(alias)
        if alias.isdecimal():
            raise RegistryError(f"{alias}: an alias that is a number would be taken for a version")
        version = self.resolve(reference)
        before = self._alias(version.name, alias) if expected is None else expected
        self._check_whole(version)
        if alias in PROTECTED:
            self._check_evidence(version, before, report, override)
        evidence = self._artifacts.keep_report(report) if report is not None else ""
        line = self._line(FORWARD, version, alias, before, override or reason)
        return self._move(line, evidence=evidence, override=bool(override))

    def drop_alias(self, name: str, alias: str, *, reason: str = "") -> Entry:
        """Takes an alias away; what it named stays.

        Raises:
            ForbiddenError, RegistryConflictError: as `set_alias`.
            VersionNotFoundError: there is no such alias.
        """
        self._actor.must(_role_for(alias))
        before = self._alias(name, alias)
        if not before:
            raise VersionNotFoundError(f"{name}@{alias}: no such alias")
        with self.catalogue.change() as change:
            if change.alias(name, alias) != before:
                raise RegistryConflictError(f"{name}@{alias} was moved meanwhile")
            change.drop_alias(name, alias)
            line = Line(actor=self._actor.name, action=DROP, name=name, alias=alias)
            return change.note(replace(line, previous=before, reason=reason))

    def rollback(
        self, name: str, alias: str = LIVE, *, reason: str, to: int | None = None
    ) -> Entry:
        """Points an alias back at the version it named before, or at an earlier one.

        It needs no report: what was live before was released before.

        Raises:
            ForbiddenError, RegistryConflictError, SignatureError: as `set_alias`.
            VersionNotFoundError: there is nothing to go back to.
        """
        self._actor.must(_role_for(alias))
        before = self._alias(name, alias)
        entries = self.catalogue.entries(name=name, alias=alias)
        gone = frozenset(v.version for v in self.catalogue.versions(name) if v.removed_us)
        target = way_back(entries, gone=gone) if to is None else to
        steps = trail(entries)
        if not before or not target or target == before or target not in steps:
            steps_back = ", ".join(str(step) for step in steps[:-1] if step) or "none"
            raise VersionNotFoundError(
                f"{name}@{alias}: nothing to go back to{f' at {to}' if to else ''}",
                hint=f"versions it named before: {steps_back}",
            )
        version = self.resolve(f"{name}@{target}")
        self._check_whole(version)
        return self._move(self._line(BACK, version, alias, before, reason))

    def live_at(self, name: str, moment: datetime, alias: str = LIVE) -> int:
        """Which version an alias named at a moment; 0 for none."""
        at_us = int(moment.timestamp() * 1_000_000)
        return self.catalogue.version_at(name, alias, at_us)

    def gc(self, *, days: float, grace: timedelta, dry: bool = False) -> Collected:
        """Removes versions that nothing names, and files that no version has; see `collect`.

        Raises:
            ForbiddenError: the actor may not promote.
            RegistryError: a manifest cannot be read: then nothing is known to be needless.
        """
        self._actor.must("promote")
        return collect(
            self.catalogue,
            self._artifacts,
            actor=self._actor.name,
            days=days,
            grace=grace,
            now=self._now(),
            dry=dry,
        )

    def _add_version(self, change: Change, name: str, manifest: Manifest, reason: str) -> Version:
        number = max((v.version for v in change.versions(name)), default=0) + 1
        line = Line(actor=self._actor.name, action="push", name=name, version=number)
        entry = change.note(replace(line, digest=manifest.digest, reason=reason))
        version = Version(
            name=name,
            version=number,
            digest=manifest.digest,
            answers=manifest.answers,
            pushed_us=entry.at_us,
            pushed_by=self._actor.name,
        )
        change.add_version(version)
        return version

    def _check_whole(self, version: Version) -> None:
        manifest = self._artifacts.manifest(version)
        self._artifacts.signature(version, manifest)
        missing = self._artifacts.missing(manifest)
        if missing:
            raise DigestMismatchError(
                f"{version.name}@{version.version}: {', '.join(missing)} is not in the store",
                hint="push it again from the same directory, or restore a backup",
            )

    def _check_evidence(
        self, version: Version, before: int, report: Mapping[str, Any] | None, override: str
    ) -> None:
        live = self.catalogue.version(version.name, before) if before else None
        try:
            if report is None:
                raise PromotionError(
                    "going live needs a gate's report",
                    hint="`xlmr gate --out FILE`, then --report FILE; or --override REASON",
                )
            check_report(report, answers=version.answers, live=live.answers if live else None)
        except PromotionError:
            if not override:
                raise

    def _move(self, line: Line, *, evidence: str = "", override: bool = False) -> Entry:
        with self.catalogue.change() as change:
            now = change.version(line.name, line.version)
            if now is None or now.removed_us:
                raise VersionNotFoundError(f"{line.name}@{line.version} was removed meanwhile")
            change.set_alias(line.name, line.alias, line.version, expected=line.previous)
            self._step("alias set")
            return change.note(replace(line, evidence=evidence, override=override))

    def _line(self, action: str, version: Version, alias: str, before: int, reason: str) -> Line:
        return Line(
            actor=self._actor.name,
            action=action,
            name=version.name,
            alias=alias,
            version=version.version,
            previous=before,
            digest=version.digest,
            reason=reason,
        )

    def _alias(self, name: str, alias: str) -> int:
        named = {row.alias: row.version for row in self.catalogue.aliases(name)}
        return named.get(alias, 0)

    def _advance(self, doing: str, total: int) -> Callable[[int], None]:
        done = 0

        def advance(more: int) -> None:
            nonlocal done
            done += more
            self._progress(doing, done, total)

        return advance


def _find(versions: Sequence[Version], digest: str) -> Version | None:
    return next((v for v in versions if v.digest == digest and not v.removed_us), None)


def _role_for(alias: str) -> Role:
    return "promote" if alias in PROTECTED else "push"


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise RegistryError(f"{name!r}: a name is letters, digits, dots, dashes, underscores")
