"""`xlmr keys`: who may ask a server; keys are made, listed and revoked, also while it serves."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import click
from rich.console import Console
from rich.table import Table

from xlmr.errors import SettingsError, XlmrError
from xlmr.serving.keys import ROLES, KeyEntry, new_key, read_entries, write_entries
from xlmr.types import Quota

_file = click.option(
    "--file",
    "path",
    required=True,
    envvar="XLMR_KEYS_FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="the file of keys  [XLMR_KEYS_FILE]",
)


@click.group(name="keys")
def keys_command() -> None:
    """Make, list and revoke the keys of a server (xlmr serve --keys-file FILE).

    Servers see a change within a second. Keys are kept as hashes: a key is shown once, here.
    """


@keys_command.command()
@click.argument("name")
@_file
@click.option("--role", "roles", multiple=True, type=click.Choice(sorted(ROLES)), help="[predict]")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="until it expires")
@click.option("--requests-per-s", type=click.FloatRange(min=0), default=0.0)
@click.option("--request-burst", type=click.FloatRange(min=0), default=0.0)
@click.option("--tokens-per-s", type=click.FloatRange(min=0), default=0.0)
@click.option("--token-burst", type=click.FloatRange(min=0), default=0.0)
def new(name: str, path: Path, roles: tuple[str, ...], days: float | None, **limits: float) -> None:
    """Make a key for NAME and print it. A second key of a name shares its quota: to rotate."""
    quota = Quota(**limits) if any(limits.values()) else None
    with _told():
        key, entry = new_key(
            name,
            roles=roles or ("predict",),
            expires=None if days is None else time.time() + days * 86_400,
            quota=quota,
        )
        change(path, lambda entries: [*entries, entry])
    click.echo(key)


@keys_command.command(name="list")
@_file
def list_keys(path: Path) -> None:
    """List the keys: never what they are, only whose."""
    with _told():
        try:
            entries = read_entries(path.read_bytes(), str(path))
        except OSError as fault:
            raise SettingsError(f"{path}: {fault.strerror}") from fault
    table = Table("id", "name", "roles", "expires", "quota", box=None)
    for entry in entries:
        table.add_row(entry.id, entry.name, ", ".join(entry.roles), _until(entry), _quota(entry))
    Console(highlight=False).print(table)


@keys_command.command()
@click.argument("which")
@_file
def revoke(which: str, path: Path) -> None:
    """Take away the key with the id WHICH, or all keys of the name WHICH."""

    def without(entries: Sequence[KeyEntry]) -> list[KeyEntry]:
        kept = [entry for entry in entries if which not in (entry.id, entry.name)]
        if len(kept) == len(entries):
            raise SettingsError(f"no key has this id or name: {which}")
        return kept

    with _told():
        change(path, without)


def change(path: Path, how: Callable[[Sequence[KeyEntry]], Sequence[KeyEntry]]) -> None:
    """Replaces the file by what `how` makes of its entries; it is whole at any moment.

    Two who change it at once do so one after the other. A file that is not there is made, readable
    by its owner alone.

    Raises:
        SettingsError: it cannot be written.
        DataError: it is no file of keys.
    """
    try:
        with _locked(path) as held:
            data = write_entries(how(read_entries(held.read(), str(path))))
            fresh = path.with_name(f".{path.name}.{os.getpid()}")
            # Left by one of our number that was killed; nobody else writes here now.
            fresh.unlink(missing_ok=True)
            with open(fresh, "xb", opener=_private) as out:
                try:
                    out.write(data)
                    out.flush()
                    os.fsync(out.fileno())
                    _keep_owner(os.fstat(held.fileno()), out.fileno())
                    os.replace(fresh, path)
                except OSError:
                    fresh.unlink(missing_ok=True)
                    raise
    except OSError as fault:
        raise SettingsError(f"{path}: {fault.strerror}", hint="nothing was changed") from fault


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The file, opened, which nobody else changes meanwhile; made where it is missing."""
    while True:
        with open(path, "a+b", opener=_private) as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            if _is_still(held, path):
                held.seek(0)
                yield held
                return


def _is_still(held: BinaryIO, path: Path) -> bool:
    """Whether nobody has replaced the file while we waited for it."""
    try:
        return os.path.samestat(os.fstat(held.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _keep_owner(before: os.stat_result, file: int) -> None:
    """The server may run as somebody else than whoever makes keys, and must go on reading them."""
    os.fchmod(file, before.st_mode & 0o777)
    with contextlib.suppress(PermissionError):
        os.fchown(file, before.st_uid, before.st_gid)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except XlmrError as error:
        raise click.ClickException(str(error)) from error


def _until(entry: KeyEntry) -> str:
    if entry.expires is None:
        return "never"
    moment = datetime.fromtimestamp(entry.expires, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{moment} (over)" if entry.expires <= time.time() else moment


def _quota(entry: KeyEntry) -> str:
    if entry.quota is None:
        return ""
    said = []
    for amount, what in (
        (entry.quota.requests_per_s, "requests/s"),
        (entry.quota.tokens_per_s, "tokens/s"),
    ):
        if amount:
            said.append(f"{amount:g} {what}")
    return ", ".join(said)
