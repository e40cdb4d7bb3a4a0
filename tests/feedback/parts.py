"""Records to try things on."""

from __future__ import annotations

from typing import Any

from xlmr.feedback.record import Record

# 2024-03-05 00:00:00 UTC.
MIDNIGHT = 1_709_596_800


def record(number: int, **said: Any) -> Record:
    """One of a long row of records, a second after the one before."""
    values: dict[str, Any] = {
        "id": f"p{number:06}",
        "at": MIDNIGHT + number,
        "model": "router",
        "version": "3",
        "task": "classify",
        "language": "de",
        "tokens": 12,
        "label": "refund",
        "probabilities": {"refund": 0.75, "other": 0.25},
        "confidence": 0.75,
        "latency_ms": 4.5,
        "fingerprint": "00ff",
    }
    return Record(**values | said)
