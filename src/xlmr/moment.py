"""Moments as people and files write them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def read_moment(said: str) -> datetime:
    """A moment from ISO 8601, such as `2024-03-05` or `2024-03-05T14:30+01:00`; else it is UTC.

    Raises:
        ValueError: it is none.
    """
    at = datetime.fromisoformat(said)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def microseconds_of(at: datetime) -> int:
    """Since 1970 UTC."""
    return round(at.timestamp() * 1e6)
