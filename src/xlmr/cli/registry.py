"""`xlmr registry`: versions kept, signed, promoted by a gate's report, and taken back."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from xlmr.cli.moments import moment_of
from xlmr.cli.progress import byte_bars
from xlmr.cli.registry_exchange import export_command, import_command
from xlmr.cli.registry_place import (
    json_option,
    opened,
    place_options,
    read_report,
    reason_option,
    say,
    settings_of,
)
from xlmr.cli.registry_tables import (
    journal_table,
    moved_line,
    print_card,
    print_table,
    size_of,
    version_lines,
    versions_table,
)
from xlmr.errors import SettingsError
from xlmr.registry.backup import backup, restore
from xlmr.registry.lineage import evidence_on, parent_digests
from xlmr.registry.names import LIVE
from xlmr.registry.opening import open_catalogue, open_store
from xlmr.registry.roles import find_actor
from xlmr.registry.signature import new_key_pair


@click.group("registry")
def registry_command() -> None:
    """Keep versions of models: pushed, signed, promoted by a gate's report, and taken back.

    \b
      xlmr registry push router models/router
      xlmr gate models/router --data data --first --policy release.toml --out gate.json
      xlmr registry alias router@1 live --report gate.json
      xlmr registry rollback router --reason "refunds are misrouted"

    A version is NAME@NUMBER or NAME@ALIAS; NAME alone is the one that is live.
    """


registry_command.add_command(export_command)
registry_command.add_command(import_command)


@registry_command.command()
@click.argument("name")
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--signature",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Of these files, made elsewhere: what `model_signing sign` wrote.",
)
@reason_option
@place_options("sign_key")
@json_option
def push(
    name: str, model: Path, signature: Path | None, reason: str, as_json: bool, **place: Any
) -> None:
    """Keep MODEL as the next version of NAME. The same files again are the same version."""
    made = signature.read_bytes() if signature is not None else None
    with opened(place, bars=True) as registry:
        version = registry.push(name, model, reason=reason, signature=made)
        gaps = registry.manifest(version).license_gaps
    if gaps:
        click.echo(f"note: {' and '.join(gaps)}", err=True)
    said = asdict(version) | {"license_gaps": gaps}
    say(said, f"{name}@{version.version}  {version.digest}", as_json=as_json)


@registry_command.command("list")
@click.argument("name", required=False)
@click.option("--removed", is_flag=True, help="Those that gc removed, too.")
@place_options()
@json_option
def list_versions(name: str | None, removed: bool, as_json: bool, **place: Any) -> None:
    """List versions, and which alias names them."""
    with opened(place) as registry:
        versions = [v for v in registry.catalogue.versions(name) if removed or not v.removed_us]
        aliases = registry.catalogue.aliases(name)
    if as_json:
        rows = [
            asdict(v)
            | {"aliases": [a.alias for a in aliases if (a.name, a.version) == (v.name, v.version)]}
            for v in versions
        ]
        click.echo(json.dumps(rows, indent=2))
    elif versions:
        print_table(versions_table(versions, aliases))
    else:
        click.echo("no versions yet: `xlmr registry push NAME DIRECTORY`")


@registry_command.command()
@click.argument("version")
@click.option("--card", "wants_card", is_flag=True, help="Its model card instead.")
@place_options()
@json_option
def show(version: str, wants_card: bool, as_json: bool, **place: Any) -> None:
    """Show what VERSION is and where it comes from: data, recipe, code, parent, evidence."""
    with opened(place) as registry:
        row = registry.resolve(version)
        manifest = registry.manifest(row)
        card = registry.card(row) if wants_card else ""
        ways = evidence_on(row.version, registry.catalogue.entries(name=row.name))
        parents = [
            v
            for v in registry.catalogue.versions()
            if v.answers in parent_digests(manifest.lineage)
        ]
    if wants_card and not as_json:
        print_card(card or f"{row.name}@{row.version} has no card (README.md)")
        return
    said = asdict(row) | {
        "manifest": json.loads(manifest.to_bytes()),
        "evidence": [asdict(entry) for entry in ways],
        "parents": [f"{v.name}@{v.version}" for v in parents],
    }
    said |= {"card": card} if wants_card else {}
    lines = version_lines(row, manifest, evidence=ways, parents=parents)
    say(said, "\n".join(lines), as_json=as_json)


@registry_command.command()
@click.argument("version", required=False)
@click.option("--anchor", metavar="LINE:HASH", help="A line of the journal as it was noted once.")
@place_options("trusted_keys")
@json_option
def verify(version: str | None, anchor: str | None, as_json: bool, **place: Any) -> None:
    """Check VERSION to the last byte; without one, the journal and every version."""
    with opened(place, bars=True) as registry:
        lines = registry.verify_journal(anchor=_anchor(anchor))
        if version is None:
            rows = [v for v in registry.catalogue.versions() if not v.removed_us]
            wanted = [f"{v.name}@{v.version}" for v in rows]
        else:
            wanted = [version]
        found = [registry.verify(reference) for reference in wanted]
    said = {"journal": {"lines": lines}, "versions": [asdict(each) for each in found]}
    text = [f"journal: {lines} lines, whole"]
    for each in found:
        signed = f"signed with {each.signed_by[:16]}" if each.signed_by else "signature not checked"
        name = f"{each.version.name}@{each.version.version}"
        text.append(f"{name}: {each.files} files, {size_of(each.size_bytes)}, whole; {signed}")
    say(said, "\n".join(text), as_json=as_json)


@registry_command.command()
@click.argument("version")
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the model that is there.")
@click.option("--plain", is_flag=True, help="Only what was pushed: no manifest, no signature.")
@place_options("trusted_keys")
@json_option
def pull(version: str, out: Path, force: bool, plain: bool, as_json: bool, **place: Any) -> None:
    """Write VERSION as a model directory, checked on the way, whole or not at all.

    transformers opens it as well: it is a Hugging Face directory.
    """
    with opened(place, bars=True) as registry:
        row = registry.pull(version, out, force=force, plain=plain)
    say(asdict(row) | {"out": str(out)}, f"{row.name}@{row.version} is in {out}", as_json=as_json)


@registry_command.command()
@click.argument("version")
@click.argument("alias")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What `xlmr gate --out` wrote; `live` needs it.",
)
@click.option("--override", default="", metavar="REASON", help="Go live in spite of the report.")
@click.option("--expect", type=click.IntRange(min=0), help="The version it names now; 0 for none.")
@click.option("--drop", is_flag=True, help="Take the alias away from VERSION's name.")
@reason_option
@place_options("trusted_keys")
@json_option
def alias(
    version: str,
    alias: str,
    report: Path | None,
    override: str,
    expect: int | None,
    drop: bool,
    reason: str,
    as_json: bool,
    **place: Any,
) -> None:
    """Have ALIAS name VERSION; `live` with a gate's report on it, or a journalled override."""
    with opened(place) as registry:
        if drop:
            entry = registry.drop_alias(version.partition("@")[0], alias, reason=reason)
        else:
            entry = registry.set_alias(
                version,
                alias,
                reason=reason,
                report=read_report(report),
                override=override,
                expected=expect,
            )
    say(asdict(entry), moved_line(entry), as_json=as_json)


@registry_command.command()
@click.argument("name")
@click.option("--alias", default=LIVE, show_default=True)
@click.option("--to", type=click.IntRange(min=1), help="A version it named before.  [the last]")
@click.option("--reason", required=True, help="Why; goes into the journal.")
@place_options("trusted_keys")
@json_option
def rollback(
    name: str, alias: str, to: int | None, reason: str, as_json: bool, **place: Any
) -> None:
    """Go back to the version that was live before. Once more goes one further back."""
    with opened(place) as registry:
        entry = registry.rollback(name, alias, reason=reason, to=to)
    say(asdict(entry), moved_line(entry), as_json=as_json)


@registry_command.command()
@click.argument("name", required=False)
@click.option("--alias", help="Only what concerns it.")
@click.option("--at", "moment", metavar="TIME", help="Which version was live then (ISO 8601).")
@place_options()
@json_option
def journal(
    name: str | None, alias: str | None, moment: str | None, as_json: bool, **place: Any
) -> None:
    """Show who did what, when and why; or what was live at a moment."""
    with opened(place) as registry:
        if moment is not None:
            if name is None:
                raise click.UsageError("--at asks for a NAME")
            at = moment_of(moment)
            version = registry.live_at(name, at, alias or LIVE)
            said = {"name": name, "alias": alias or LIVE, "at": at.isoformat(), "version": version}
            say(said, str(version) if version else "none", as_json=as_json)
            return
        entries = registry.catalogue.entries(name=name, alias=alias)
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
    else:
        print_table(journal_table(entries))


@registry_command.command()
@click.option("--days", type=click.FloatRange(min=0), default=90.0, show_default=True)
@click.option("--grace-hours", type=click.FloatRange(min=0), default=24.0, show_default=True)
@click.option("--dry-run", is_flag=True, help="Only tell.")
@place_options()
@json_option
def gc(days: float, grace_hours: float, dry_run: bool, as_json: bool, **place: Any) -> None:
    """Remove what neither an alias, a way back nor the journal of the last DAYS names.

    Files younger than the grace stay: somebody may be pushing them.
    """
    with opened(place) as registry:
        found = registry.gc(days=days, grace=timedelta(hours=grace_hours), dry=dry_run)
    verb = "would remove" if dry_run else "removed"
    text = [f"{verb} {v.name}@{v.version}" for v in found.versions]
    text.append(f"{verb} {found.blobs} files, {size_of(found.size_bytes)}")
    say(asdict(found), "\n".join(text), as_json=as_json)


@registry_command.command("backup")
@click.argument("target")
@place_options()
@json_option
def backup_(target: str, as_json: bool, **place: Any) -> None:
    """Copy the registry to TARGET, a path or URL; again copies only what is new."""
    with opened(place) as registry, byte_bars() as progress:
        settings = settings_of(place)
        to = open_store(settings, url=target)
        taken = backup(registry.catalogue, registry.store, to, progress=progress)
    said = {"versions": len(taken.kept), "line": taken.head.seq, "hash": taken.head.hash}
    text = f"{said['versions']} versions; journal line {said['line']}:{said['hash']}"
    say(said, text, as_json=as_json)


@registry_command.command("restore")
@click.argument("source")
@reason_option
@place_options()
@json_option
def restore_(source: str, reason: str, as_json: bool, **place: Any) -> None:
    """Bring the latest backup in SOURCE back, into a registry that is empty."""
    settings = settings_of(place)
    who = find_actor(settings.registry_roles, name=place["actor"] or "", key=settings.registry_key)
    who.must("promote")
    catalogue = open_catalogue(settings)
    with contextlib.closing(catalogue), byte_bars() as progress:
        taken = restore(
            open_store(settings, url=source),
            catalogue,
            open_store(settings),
            actor=who.name,
            reason=reason,
            progress=progress,
        )
    said = {"versions": len(taken.kept), "line": taken.head.seq}
    say(said, f"{said['versions']} versions; journal line {said['line']}", as_json=as_json)


@registry_command.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
def keygen(out: Path) -> None:
    """Write a key pair to the directory OUT: sign.key, which stays secret, and sign.pem."""
    private, public = new_key_pair()
    try:
        out.mkdir(parents=True, exist_ok=True)
        taken = [path for path in (out / "sign.key", out / "sign.pem") if path.exists()]
        if taken:
            raise SettingsError(f"{taken[0]} exists", hint="a key is never replaced")
        handle = os.open(out / "sign.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(private)
        (out / "sign.pem").write_bytes(public)
    except OSError as fault:
        raise SettingsError(f"{out}: {fault.strerror}") from None
    click.echo(f"sign with --sign-key {out / 'sign.key'}, check with --trusted-keys {out}")


def _anchor(said: str | None) -> tuple[int, str] | None:
    if said is None:
        return None
    line, _, noted = said.partition(":")
    if not line.isdecimal() or len(noted) != 64:
        raise click.UsageError("--anchor is LINE:HASH, as `xlmr registry backup` prints it")
    return int(line), noted
