"""The registry's verbs, on one page: push, show, verify, pull, alias, rollback, gc.

A version exists once its row is written, which is the last thing a push does; an alias moves in one
transaction with its line in the journal. So a process killed anywhere leaves either what was, or
what should be, and files nobody names, which `gc` removes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from xlmr.errors import (
    RegistryConflictError,
    RegistryUnavailableError,
    VersionNotFoundError,
)
from xlmr.model.importing.staging import build_directory
from xlmr.registry.artifacts import Artifacts, Verified
from xlmr.registry.catalogue import Catalogue, Change
from xlmr.registry.collection import Collected, collect
from xlmr.registry.journal import BACK, DROP, FORWARD, Entry, Line, trail, way_back
from xlmr.registry.manifest import CARD_FILE, Manifest, files_beside, make_manifest
from xlmr.registry.names import LIVE, check_alias, check_name, parse_reference
from xlmr.registry.promotion import check_promotion
from xlmr.registry.roles import Actor, Role
from xlmr.registry.signature import Signer, Trusted
from xlmr.registry.store import Progress, Step, Store, no_step
from xlmr.registry.tables import Version

# Aliases that only somebody who may promote moves, and only with a gate's report.
PROTECTED = frozenset((LIVE,))
_TRIES = 3


class Registry:
    """A catalogue, a store, and who acts.

    Attributes:
        catalogue: versions, aliases and the journal.
        store: artifacts.
        actor: who acts.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        store: Store,
        actor: Actor,
        *,
        signer: Signer | None = None,
        trusted: Sequence[Trusted] = (),
        cache_dir: Path | None = None,
        progress: Progress | None = None,
        step: Step = no_step,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        actor.must("read")
        self.catalogue = catalogue
        self.store = store
        self.actor = actor
        self._artifacts = Artifacts(store, signer=signer, trusted=trusted)
        self._cache_dir = cache_dir
        self._progress = progress or (lambda doing, done, total: None)
        self._step = step
        self._now = now

    def push(
        self,
        name: str,
        directory: Path,
        *,
        reason: str = "",
        promised: Manifest | None = None,
        signature: bytes | None = None,
    ) -> Version:
        """Stores a model directory as the next version of a name.

        The same files pushed again are the same version; a signature is added to it.

        Args:
            name: what it is a version of.
            directory: with the model.
            reason: why; goes into the journal.
            promised: what the directory has to be, where somebody else released it.
            signature: somebody's of exactly these files; kept beside ours.

        Raises:
            ForbiddenError: the actor may not push.
            ModelError: the directory is no model, or not what was promised.
            SignatureError: the signature is on other files.
            RegistryError: a name that cannot be one, or a store or database that is away.
        """
        self.actor.must("push")
        check_name(name)
        manifest = make_manifest(
            directory, promised=promised, cache_dir=self._cache_dir, progress=self._progress
        )
        for _ in range(_TRIES):
            advance = self._advance("storing", manifest.size_bytes)
            self._artifacts.put(
                manifest, directory, name=name, advance=advance, signature=signature
            )
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
        asked = parse_reference(reference)
        if asked is None:
            raise VersionNotFoundError(
                f"{reference!r}: nothing can be called so",
                hint="a version is NAME@NUMBER or NAME@ALIAS",
            )
        name, wanted = asked.name, asked.alias or str(asked.number)
        number = asked.number or self._alias(name, asked.alias)
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

    def card(self, version: Version) -> str:
        """The text of a version's model card; empty where it has none.

        Raises:
            DigestMismatchError, RegistryUnavailableError: it is altered, or not there.
        """
        card = self._artifacts.read(self.manifest(version), CARD_FILE)
        return card.decode("utf-8", errors="replace")

    def verify(self, reference: str) -> Verified:
        """Reads all of a version: manifest, signature, every file.

        Raises:
            VersionNotFoundError, RegistryError, DigestMismatchError: it is not whole; the file
                is named.
            SignatureError: trusted keys are given, and none of them signed exactly these files.
        """
        version = self.resolve(reference)
        manifest = self.manifest(version)
        advance = self._advance("checking", manifest.size_bytes)
        return self._artifacts.verify(version, manifest, advance=advance)

    def verify_journal(self, *, anchor: tuple[int, str] | None = None) -> int:
        """That the journal is whole, and all rows are what it says; its lines.

        Raises:
            JournalError: a line or a row was edited; it is named.
        """
        return self.catalogue.whole().check(anchor=anchor)

    def pull(
        self,
        reference: str,
        out: Path,
        *,
        force: bool = False,
        plain: bool = False,
        card: str = "",
    ) -> Version:
        """Writes a version as a model directory, checked on the way, whole or not at all.

        Args:
            reference: as `resolve` takes it.
            out: where; nothing is there yet, unless `force` replaces a model.
            force: whether it may replace a model.
            plain: without manifest and signature: only what was pushed.
            card: written as the model's card where it has none; no part of the version.

        Raises:
            SignatureError: trusted keys are given, and none of them signed it.
            ModelError: the target cannot be written.
            RegistryError, DigestMismatchError: as `verify`.
        """
        version = self.resolve(reference)
        manifest = self.manifest(version)
        _, signature = self._artifacts.signature(version, manifest)
        beside = {CARD_FILE: card.encode()} if card and manifest.file(CARD_FILE) is None else {}
        beside |= {} if plain else files_beside(manifest, signature)
        advance = self._advance("pulling", manifest.size_bytes)
        write = partial(self._artifacts.write, manifest, beside=beside, advance=advance)
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
        self.actor.must(_role_for(alias))
        check_alias(alias)
        version = self.resolve(reference)
        before = self._alias(version.name, alias) if expected is None else expected
        if alias in PROTECTED:
            evidence = self.clear(version, before, report=report, override=override)
        else:
            self._artifacts.check_whole(version)
            evidence = self._artifacts.keep_report(report) if report is not None else ""
        line = self._line(FORWARD, version, alias, before, override or reason)
        return self._move(line, evidence=evidence, override=bool(override))

    def clear(
        self, version: Version, live: int, *, report: Mapping[str, Any] | None, override: str
    ) -> str:
        """That a version may go live instead of another; digest of the report, which is kept.

        Args:
            version: to be.
            live: number of the version it replaces; 0 for none.
            report, override: as `set_alias` takes them.

        Raises:
            ForbiddenError, PromotionError, SignatureError: as `set_alias`.
            DigestMismatchError: it is not whole.
        """
        self.actor.must("promote")
        self._artifacts.check_whole(version)
        before = self.catalogue.version(version.name, live) if live else None
        answered = before.answers if before else None
        check_promotion(report, answers=version.answers, live=answered, override=override)
        return self._artifacts.keep_report(report) if report is not None else ""

    def drop_alias(self, name: str, alias: str, *, reason: str = "") -> Entry:
        """Takes an alias away; what it named stays.

        Raises:
            ForbiddenError, RegistryConflictError: as `set_alias`.
            VersionNotFoundError: there is no such alias.
        """
        self.actor.must(_role_for(alias))
        before = self._alias(name, alias)
        if not before:
            raise VersionNotFoundError(f"{name}@{alias}: no such alias")
        with self.catalogue.change() as change:
            if change.alias(name, alias) != before:
                raise RegistryConflictError(f"{name}@{alias} was moved meanwhile")
            change.drop_alias(name, alias)
            line = Line(actor=self.actor.name, action=DROP, name=name, alias=alias)
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
        self.actor.must(_role_for(alias))
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
        self._artifacts.check_whole(version)
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
        self.actor.must("promote")
        return collect(
            self.catalogue,
            self._artifacts,
            actor=self.actor.name,
            days=days,
            grace=grace,
            now=self._now(),
            dry=dry,
        )

    def _add_version(self, change: Change, name: str, manifest: Manifest, reason: str) -> Version:
        number = max((v.version for v in change.versions(name)), default=0) + 1
        line = Line(actor=self.actor.name, action="push", name=name, version=number)
        entry = change.note(replace(line, digest=manifest.digest, reason=reason))
        version = Version(
            name=name,
            version=number,
            digest=manifest.digest,
            answers=manifest.answers,
            pushed_us=entry.at_us,
            pushed_by=self.actor.name,
        )
        change.add_version(version)
        return version

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
            actor=self.actor.name,
            action=action,
            name=version.name,
            alias=alias,
            version=version.version,
            previous=before,
            digest=version.digest,
            reason=reason,
        )

    def _alias(self, name: str, alias: str) -> int:
        rows = self.catalogue.aliases(name)
        return next((row.version for row in rows if row.alias == alias), 0)

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
