"""The tables of what is counted and watched, and how counts lie in them."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from typing import Any

from xlmr.drift.signals import EDGES, Signals
from xlmr.errors import DataError, MissingExtraError

try:
    import sqlalchemy as sql
except ImportError:
    raise MissingExtraError("sqlalchemy", extra="feedback") from None

# Grows with every change of the tables that an older program would read wrongly.
SCHEMA_VERSION = 1
METADATA = sql.MetaData()
SCHEMA = sql.Table(
    "xlmr_drift_schema", METADATA, sql.Column("version", sql.Integer, nullable=False)
)


def _key() -> list[sql.Column[Any]]:
    """Of what is watched."""
    return [sql.Column(name, sql.Text, primary_key=True) for name in ("model", "version", "task")]


# `labels` tells apart who counted other labels, or on other bins, under the same names.
COUNTS = sql.Table(
    "xlmr_drift_counts",
    METADATA,
    *_key(),
    sql.Column("labels", sql.String(16), primary_key=True),
    sql.Column("hour", sql.Integer, primary_key=True),
    sql.Column("rows", sql.BigInteger, nullable=False),
    sql.Column("signals", sql.LargeBinary, nullable=False),
)
# The last batch of each server: one that comes again is known.
SERVERS = sql.Table(
    "xlmr_drift_servers",
    METADATA,
    sql.Column("server", sql.String(64), primary_key=True),
    sql.Column("sequence", sql.BigInteger, nullable=False),
    sql.Column("at_s", sql.BigInteger, nullable=False),
)
# `hour` is the last one that was weighed. The row is also what adding and weighing lock.
WATCHES = sql.Table(
    "xlmr_drift_watches",
    METADATA,
    *_key(),
    sql.Column("hour", sql.Integer, nullable=False),
    sql.Column("reference", sql.String(64), nullable=False),
    sql.Column("streams", sql.Integer, nullable=False),
    sql.Column("at_s", sql.BigInteger, nullable=False),
    sql.Column("state", sql.LargeBinary, nullable=False),
    sql.Column("levels", sql.Text, nullable=False),
)
REFERENCES = sql.Table(
    "xlmr_drift_references",
    METADATA,
    sql.Column("digest", sql.String(64), primary_key=True),
    sql.Column("content", sql.LargeBinary, nullable=False),
)
ALARMS = sql.Table(
    "xlmr_drift_alarms",
    METADATA,
    sql.Column("number", sql.Integer, primary_key=True),
    sql.Column("model", sql.Text, nullable=False),
    sql.Column("version", sql.Text, nullable=False),
    sql.Column("task", sql.Text, nullable=False),
    sql.Column("reference", sql.String(64), nullable=False),
    sql.Column("hour", sql.Integer, nullable=False),
    sql.Column("alarm", sql.Text, nullable=False),
    sql.Index("xlmr_drift_alarms_hour", "hour"),
)


def labels_key(labels: Sequence[str]) -> str:
    """What stands for the bins of counts: labels in their order, and this release's edges."""
    return hashlib.sha256(json.dumps([list(labels), dict(EDGES)]).encode()).hexdigest()[:16]


def packed(value: Any) -> bytes:
    """Plain values as they lie in a table: counts are mostly zeros."""
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode())


def unpacked(data: bytes) -> Any:
    """The reverse.

    Raises:
        DataError: something else.
    """
    try:
        return json.loads(zlib.decompress(data))
    except (zlib.error, ValueError) as fault:
        raise DataError(f"the drift store holds what nobody wrote: {fault}") from None


def signals_of(data: bytes) -> Signals:
    """Counts out of a table.

    Raises:
        DataError: they are none, or of another release.
    """
    return Signals.from_json(unpacked(data))
