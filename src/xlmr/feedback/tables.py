"""The feedback store's tables, and how a record and a line of feedback become rows."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from xlmr.errors import MissingExtraError
from xlmr.feedback.labels import Feedback
from xlmr.feedback.record import Record, likeliest

try:
    import sqlalchemy as sql
except ImportError:
    raise MissingExtraError("sqlalchemy", extra="feedback") from None

# Grows with every change of the tables that an older program would read wrongly.
SCHEMA_VERSION = 1
METADATA = sql.MetaData()
SCHEMA = sql.Table(
    "xlmr_feedback_schema", METADATA, sql.Column("version", sql.Integer, nullable=False)
)
RECORDS = sql.Table(
    "xlmr_records",
    METADATA,
    sql.Column("id", sql.String(200), primary_key=True),
    sql.Column("at_us", sql.BigInteger, nullable=False),
    sql.Column("model", sql.Text, nullable=False),
    sql.Column("version", sql.Text, nullable=False),
    sql.Column("task", sql.String(40), nullable=False),
    sql.Column("language", sql.String(40), nullable=False),
    sql.Column("tokens", sql.Integer, nullable=False),
    sql.Column("label", sql.Text, nullable=False),
    sql.Column("probabilities", sql.Text, nullable=False),
    sql.Column("confidence", sql.Double, nullable=True),
    sql.Column("abstained", sql.Boolean, nullable=True),
    sql.Column("latency_ms", sql.Double, nullable=True),
    sql.Column("fingerprint", sql.String(64), nullable=False),
    sql.Column("subject", sql.String(64), nullable=False),
    sql.Column("text", sql.Text, nullable=False),
    sql.Column("retention", sql.String(40), nullable=False),
    sql.Index("xlmr_records_at", "at_us", "id"),
    sql.Index("xlmr_records_subject", "subject"),
)
FEEDBACK = sql.Table(
    "xlmr_feedback",
    METADATA,
    sql.Column("key", sql.String(64), primary_key=True),
    sql.Column("prediction", sql.String(200), nullable=False),
    sql.Column("label", sql.Text, nullable=False),
    sql.Column("who", sql.String(64), nullable=False),
    sql.Column("source", sql.String(40), nullable=False),
    sql.Column("said_us", sql.BigInteger, nullable=False),
    sql.Column("known_us", sql.BigInteger, nullable=False),
    sql.Index("xlmr_feedback_prediction", "prediction"),
    sql.Index("xlmr_feedback_known", "known_us", "key"),
    sql.Index("xlmr_feedback_who", "who"),
)
# Which predictions were given to people to label; `inclusion` is 0 for what chance did not pick.
SELECTED = sql.Table(
    "xlmr_selected",
    METADATA,
    sql.Column("prediction", sql.String(200), primary_key=True),
    sql.Column("inclusion", sql.Double, nullable=False),
    sql.Column("at_us", sql.BigInteger, nullable=False),
)
# What versions in the shadow answered otherwise; how often they agreed is counted elsewhere.
DISAGREEMENTS = sql.Table(
    "xlmr_disagreements",
    METADATA,
    sql.Column("prediction", sql.String(200), primary_key=True),
    sql.Column("version", sql.String(200), primary_key=True),
    sql.Column("label", sql.Text, nullable=False),
    sql.Column("at_us", sql.BigInteger, nullable=False),
    sql.Index("xlmr_disagreements_at", "at_us"),
)
# That something was erased, when, and how much; never whose.
ERASURES = sql.Table(
    "xlmr_erasures",
    METADATA,
    sql.Column("number", sql.Integer, primary_key=True),
    sql.Column("at_us", sql.BigInteger, nullable=False),
    sql.Column("records", sql.Integer, nullable=False),
    sql.Column("feedback", sql.Integer, nullable=False),
)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LENGTHS = {
    column.name: column.type.length for column in RECORDS.c if isinstance(column.type, sql.String)
}


def row_of(record: Record) -> dict[str, Any]:
    """A record as a row. What no database stores (half a surrogate pair, a zero, NaN) is replaced,
    what is too long is cut: one odd record must not cost its whole batch.
    """
    row: dict[str, Any] = {name: getattr(record, name) for name in record.__struct_fields__}
    finite = {k: v for k, v in likeliest(record.probabilities).items() if math.isfinite(v)}
    row["probabilities"] = json.dumps(finite, ensure_ascii=True)
    row["at_us"] = round(row.pop("at") * 1e6)
    for name, value in row.items():
        if isinstance(value, str):
            row[name] = storable(value)[: _LENGTHS[name]]
        elif isinstance(value, float) and not math.isfinite(value):
            row[name] = None
    return row


def record_of(row: Any) -> Record:
    """A row as a record."""
    said = dict(row._mapping)
    said["at"] = said.pop("at_us") / 1e6
    said["probabilities"] = json.loads(said["probabilities"])
    said["latency_ms"] = said["latency_ms"] or 0.0
    return Record(**said)


def feedback_of(row: Any) -> Feedback:
    """A row as feedback."""
    said = dict(row._mapping)
    del said["key"]
    return Feedback(**said)


def storable(said: str) -> str:
    """A string as both databases take it."""
    return _UNSTORABLE.sub("\ufffd", said)
