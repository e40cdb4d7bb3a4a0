"""Records as Parquet, a directory for each day: what pandas, Spark, DuckDB and Feast read."""

from __future__ import annotations

import datetime
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from xlmr.errors import DataError, MissingExtraError
from xlmr.feedback.record import Record

try:
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.parquet
except ImportError:
    raise MissingExtraError("pyarrow", extra="data") from None

_ROWS = 10_000
_NAME = "records.parquet"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        # Feast's `timestamp_field`.
        ("event_timestamp", pa.timestamp("us", tz="UTC")),
        ("model", pa.string()),
        ("version", pa.string()),
        ("task", pa.string()),
        ("language", pa.string()),
        ("tokens", pa.int32()),
        ("label", pa.string()),
        ("probabilities", pa.string()),
        ("confidence", pa.float64()),
        ("abstained", pa.bool_()),
        ("latency_ms", pa.float64()),
        ("fingerprint", pa.string()),
        ("subject", pa.string()),
        ("text", pa.string()),
        ("retention", pa.string()),
    ]
)


def write_days(records: Iterable[Record], directory: Path) -> dict[str, int]:
    """Writes `day=YYYY-MM-DD/records.parquet` (UTC) for each day; how many records each holds.

    A day's file appears whole, in place of one that was there before; so export whole days.

    Args:
        records: by time.
        directory: made where it is missing.

    Raises:
        DataError: it cannot be written.
    """
    written: dict[str, int] = {}
    try:
        for day, theirs in itertools.groupby(records, key=_day):
            path = directory / f"day={day}" / _NAME
            path.parent.mkdir(parents=True, exist_ok=True)
            written[day] = _write(path, (_columns(theirs_) for theirs_ in _batched(theirs)))
    except OSError as fault:
        raise DataError(f"{directory}: {fault.strerror or fault}") from fault
    return written


def erase_from(directory: Path, person: str) -> int:
    """Removes a person's records from days that were written before; how many there were.

    Raises:
        DataError: a file cannot be read or written.
    """
    erased = 0
    try:
        for path in sorted(directory.glob(f"day=*/{_NAME}")):
            table = pa.parquet.read_table(path, schema=SCHEMA, partitioning=None)
            kept = table.filter(pa.compute.not_equal(table["subject"], person))
            if kept.num_rows < table.num_rows:
                _write(path, [kept])
                erased += table.num_rows - kept.num_rows
    except (OSError, pa.ArrowInvalid) as fault:
        raise DataError(
            f"{directory}: cannot be read or written: {type(fault).__name__}"
        ) from fault
    return erased


def _write(path: Path, tables: Iterable[Any]) -> int:
    """Writes a file whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    rows = 0
    try:
        with pa.parquet.ParquetWriter(unfinished, SCHEMA) as writer:
            for table in tables:
                writer.write_table(table)
                rows += table.num_rows
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return rows


def _batched(records: Iterator[Record]) -> Iterator[list[Record]]:
    while batch := list(itertools.islice(records, _ROWS)):
        yield batch


def _columns(records: list[Record]) -> Any:
    rows: list[dict[str, Any]] = []
    for record in records:
        row: dict[str, Any] = {name: getattr(record, name, None) for name in SCHEMA.names}
        row["event_timestamp"] = round(record.at * 1e6)
        row["probabilities"] = json.dumps(dict(record.probabilities), ensure_ascii=False)
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _day(record: Record) -> str:
    return datetime.datetime.fromtimestamp(record.at, datetime.UTC).date().isoformat()
