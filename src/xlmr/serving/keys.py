"""API keys in a file: told apart by an id they carry, kept as salted hashes, reloaded on a change.

The file holds one JSON object a line. A key is 32 random bytes, so one round of SHA-256 keeps it: a
password's slow hash would only cost every request what nobody can guess anyway.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from xlmr.errors import DataError, SettingsError, UnauthenticatedError
from xlmr.types import Caller, Quota

logger = logging.getLogger("xlmr.serving.keys")

ROLES = frozenset({"predict", "feedback", "operate"})

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
# `xlmr_ID_SECRET`: what it is, which entry it belongs to, and 32 random bytes.
_KEY = re.compile(r"xlmr_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
# How often the file is looked at, at most: an `os.stat` on the event loop.
_LOOK_SECONDS = 1.0


class KeyEntry(
    msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A line of the file.

    Attributes:
        id: 16 hexadecimal digits, which the key itself carries.
        name: who asks, as logs and quotas call them; several keys may have one name.
        salt: 32 hexadecimal digits.
        hash: SHA-256 of salt and secret, hexadecimal.
        roles: of `predict`, `feedback` and `operate`.
        expires: seconds since 1970; None for never.
        quota: how much they may use; None for what the settings give everyone.
    """

    id: str
    name: str
    salt: str
    hash: str
    roles: tuple[str, ...] = ("predict",)
    expires: float | None = None
    quota: Quota | None = None


def new_key(
    name: str,
    *,
    roles: Sequence[str] = ("predict",),
    expires: float | None = None,
    quota: Quota | None = None,
) -> tuple[str, KeyEntry]:
    """A key, which nobody can tell again once it is forgotten, and the entry that knows it.

    Raises:
        SettingsError: the name or a role is none.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} is no name of a key", hint="up to 64 letters, digits, dots and dashes"
        )
    unknown = sorted(set(roles) - ROLES)
    if unknown or not roles:
        raise SettingsError(
            f"{', '.join(unknown) or 'nothing'} is no role", hint=f"of {', '.join(sorted(ROLES))}"
        )
    id, salt, secret = secrets.token_hex(8), secrets.token_hex(16), secrets.token_urlsafe(32)
    entry = KeyEntry(
        id=id,
        name=name,
        salt=salt,
        hash=_hash(salt, secret),
        roles=tuple(sorted(set(roles))),
        expires=expires,
        quota=quota,
    )
    return f"xlmr_{id}_{secret}", entry


def read_entries(data: bytes, place: str) -> list[KeyEntry]:
    """The lines of a file.

    Raises:
        DataError: a line is none, or an id stands there twice; never quotes the line.
    """
    entries: dict[str, KeyEntry] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        try:
            entry = _decoder.decode(line)
        except msgspec.DecodeError as fault:
            raise DataError(f"{place}, line {number}: {fault}") from None
        wrong = _wrong(entry)
        if wrong or entry.id in entries:
            raise DataError(f"{place}, line {number}: {wrong or 'this id stands there twice'}")
        entries[entry.id] = entry
    return list(entries.values())


def write_entries(entries: Sequence[KeyEntry]) -> bytes:
    """The lines of a file."""
    return b"".join([_encoder.encode(entry) + b"\n" for entry in entries])


class Keyring:
    """The keys of a file, as it is now. A broken file leaves the keys that were there before.

    Raises:
        SettingsError: there is no such file.
        DataError: it cannot be read as keys.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        try:
            self._seen: tuple[int, int, int] | None = _signature(path)
            self._entries = self._read()
        except OSError as fault:
            raise SettingsError(
                f"{path}: {fault.strerror}", hint="xlmr keys new --file FILE makes one"
            ) from fault
        self._looked = clock()

    async def caller(self, credential: str) -> Caller | None:
        """Whose key this is; None where it has not the shape of one.

        Raises:
            UnauthenticatedError: no such key, or it has expired.
        """
        if self._clock() - self._looked >= _LOOK_SECONDS and self._changed():
            # Before the answer: a key that was taken away opens nothing from that moment on.
            await asyncio.to_thread(self._reload)
        shape = _KEY.fullmatch(credential)
        if shape is None:
            return None
        entry = self._entries.get(shape[1], _NOBODY)
        known = hmac.compare_digest(_hash(entry.salt, shape[2]), entry.hash)
        if not known or entry is _NOBODY:
            raise UnauthenticatedError("the key is not known", hint="it may have been revoked")
        if entry.expires is not None and self._now() >= entry.expires:
            raise UnauthenticatedError("the key has expired", hint="ask for a new one")
        return Caller(entry.name, frozenset(entry.roles), entry.quota)

    def _changed(self) -> bool:
        self._looked = self._clock()
        try:
            return _signature(self._path) != self._seen
        except OSError:
            return self._seen is not None

    def _reload(self) -> None:
        """Takes over what the file says; one thread reads, the others wait for it."""
        with self._lock:
            try:
                signature = _signature(self._path)
                if signature == self._seen:
                    return
                self._seen = signature
                self._entries = self._read()
            except OSError as fault:
                self._seen = None
                logger.error("keys: %s cannot be read, the old keys stay: %s", self._path, fault)
            except DataError as fault:
                logger.error("keys: the old keys stay: %s", fault)
            else:
                logger.info("keys: %d of %s are in use", len(self._entries), self._path)

    def _read(self) -> Mapping[str, KeyEntry]:
        entries = read_entries(self._path.read_bytes(), str(self._path))
        return {entry.id: entry for entry in entries}


# Compared with where there is no such id, so that asking takes as long.
_NOBODY = KeyEntry(id="", name="", salt="0" * 32, hash="0" * 64)
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(KeyEntry)


def _hash(salt: str, secret: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + secret.encode()).hexdigest()


def _signature(path: Path) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns


def _wrong(entry: KeyEntry) -> str:
    """What no entry can say; empty for one that is well."""
    if not re.fullmatch("[0-9a-f]{16}", entry.id):
        return "id: expected 16 hexadecimal digits"
    if not re.fullmatch("[0-9a-f]{32}", entry.salt):
        return "salt: expected 32 hexadecimal digits"
    if not re.fullmatch("[0-9a-f]{64}", entry.hash):
        return "hash: expected 64 hexadecimal digits"
    if not _NAME.fullmatch(entry.name):
        return "name: expected up to 64 letters, digits, dots, dashes"
    if not entry.roles or set(entry.roles) - ROLES:
        return f"roles: expected some of {', '.join(sorted(ROLES))}"
    quota = entry.quota
    if (
        quota is not None
        and not min(
            quota.requests_per_s, quota.request_burst, quota.tokens_per_s, quota.token_burst
        )
        >= 0
    ):
        return "quota: expected numbers of at least 0"
    return ""
