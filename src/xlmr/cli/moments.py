"""Moments as they are typed: `--since 2024-03-05T14:30`."""

from __future__ import annotations

from datetime import datetime

from xlmr.errors import SettingsError
from xlmr.moment import microseconds_of, read_moment


def moment_of(said: str) -> datetime:
    """A moment as people write it; UTC where they do not say.

    Raises:
        SettingsError: it is none.
    """
    try:
        return read_moment(said)
    except ValueError:
        raise SettingsError(
            f"{said!r} is no time", hint="for example 2024-03-05 or 2024-03-05T14:30:00+01:00"
        ) from None


def moment_us(said: str) -> int:
    """The same in microseconds since 1970 UTC."""
    return microseconds_of(moment_of(said))
