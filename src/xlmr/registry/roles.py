"""Who may push, promote and read.

A roles file names actors:

    [ada]
    roles = ["promote"]

    [pipeline]
    roles = ["push"]
    key = "SHA-256 of a key, hex"    # `printf %s KEY | sha256sum`

An actor with a key must show it; one without is believed only to be the user who is logged in.
It keeps tools and people apart by mistake, not by force: whoever has the database's password and
the store's can do what those allow. Give readers read-only ones.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import pwd
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xlmr.errors import ForbiddenError, SettingsError, UnauthenticatedError

Role = Literal["read", "push", "promote"]
_GRANTS: Mapping[str, frozenset[str]] = {
    "read": frozenset(("read",)),
    "push": frozenset(("read", "push")),
    "promote": frozenset(("read", "promote")),
}
ALL = frozenset(_GRANTS)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and what they may do."""

    name: str
    roles: frozenset[str] = ALL

    def must(self, role: Role) -> None:
        """Goes on only if they may.

        Raises:
            ForbiddenError: they may not.
        """
        if role not in self.roles:
            may = ", ".join(sorted(self.roles)) or "nothing"
            raise ForbiddenError(f"{self.name} may {may}, and this needs {role}")


def user_name() -> str:
    """Who is logged in, as the system knows it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def find_actor(path: str, *, name: str = "", key: str = "", user: str | None = None) -> Actor:
    """Who acts.

    Args:
        path: the roles file; empty lets everybody do everything.
        name: who it is said to be; the user where empty.
        key: what they show.
        user: who is logged in.

    Raises:
        SettingsError: no roles file, or one that cannot be understood.
        UnauthenticatedError: they are not who they are said to be.
        ForbiddenError: nobody of that name is in the file.
    """
    user = user_name() if user is None else user
    name = name or user
    if not name.isprintable() or len(name) > 200:
        raise SettingsError("an actor's name is up to 200 printable characters")
    if not path:
        return Actor(name)
    actors = _read(Path(path).expanduser())
    if name not in actors:
        raise ForbiddenError(f"{path} gives {name} no role")
    roles, digest = actors[name]
    if digest:
        if not hmac.compare_digest(hashlib.sha256(key.encode()).hexdigest(), digest):
            raise UnauthenticatedError(f"the key shown is not {name}'s", hint="XLMR_REGISTRY_KEY")
    elif name != user:
        raise UnauthenticatedError(
            f"{user} is not {name}", hint=f"give {name} a key in {path}, and show it"
        )
    return Actor(name, frozenset().union(*(_GRANTS[role] for role in roles)))


def _read(path: Path) -> dict[str, tuple[list[str], str]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise SettingsError(f"{path}: {fault.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise SettingsError(f"{path}: not TOML: {fault}") from None
    return {name: _entry(f"{path}: [{name}]", told) for name, told in content.items()}


def _entry(where: str, told: Any) -> tuple[list[str], str]:
    if not isinstance(told, dict) or set(told) - {"roles", "key"}:
        raise SettingsError(f"{where}: expected `roles` and perhaps `key`")
    roles, digest = told.get("roles"), told.get("key", "")
    if not isinstance(roles, list) or not all(role in _GRANTS for role in roles):
        raise SettingsError(f"{where} roles: expected some of {', '.join(_GRANTS)}")
    if not isinstance(digest, str) or (digest and len(digest) != 64):
        raise SettingsError(f"{where} key: expected the SHA-256 of a key, hex, not the key itself")
    return roles, digest.lower()
