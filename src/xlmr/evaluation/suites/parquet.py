"""Parquet, through pyarrow where it is installed. A row's line is its number, from 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xlmr.errors import DataError, MissingExtraError
from xlmr.evaluation.suites.record import Record

_ROWS = 4096  # at a time: a few megabytes


def parquet_records(path: Path, raw: bytes) -> Iterator[Record]:
    """The rows of a Parquet file, given as its bytes.

    Raises:
        DataError: the bytes are not Parquet.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as fault:
        raise MissingExtraError("pyarrow", extra="data") from fault
    line = 0
    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(raw))
        for batch in file.iter_batches(batch_size=_ROWS):
            for values in batch.to_pylist():
                line += 1
                yield Record(path, line, values)
    # pyarrow's messages may quote what it could not decode, so none of them is passed on.
    except (pyarrow.ArrowException, OSError, ValueError):
        raise DataError(f"{path}:{line + 1}: not Parquet, or damaged") from None
