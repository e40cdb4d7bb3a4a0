"""What versions are called by: `NAME@NUMBER`, `NAME@ALIAS`; `NAME` alone is the live one. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from xlmr.errors import RegistryError

LIVE = "live"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# What a database's integer holds.
_NUMBER = re.compile(r"[0-9]{1,9}")


class Reference(NamedTuple):
    """A name, and either a version's number or, where that is 0, an alias."""

    name: str
    number: int
    alias: str


def parse_reference(said: str) -> Reference | None:
    """What somebody means; None for what nothing can be called by."""
    name, _, wanted = said.partition("@")
    if not _NAME.fullmatch(name):
        return None
    if _NUMBER.fullmatch(wanted):
        return Reference(name, int(wanted), "") if int(wanted) else None
    return Reference(name, 0, wanted or LIVE) if _NAME.fullmatch(wanted or LIVE) else None


def check_name(name: str) -> None:
    """Refuses a name that could be taken for something else.

    Raises:
        RegistryError: it is not letters, digits, dots, dashes and underscores.
    """
    if not _NAME.fullmatch(name):
        raise RegistryError(f"{name!r}: a name is letters, digits, dots, dashes, underscores")


def check_alias(alias: str) -> None:
    """Refuses an alias that could be taken for something else.

    Raises:
        RegistryError: no name, or a number.
    """
    check_name(alias)
    if alias.isdecimal():
        raise RegistryError(f"{alias}: an alias that is a number would be taken for a version")
