from __future__ import annotations

import datetime
import os
from pathlib import Path

import pyarrow.dataset
import pytest
from tests.feedback.parts import MIDNIGHT, record

from xlmr.errors import DataError
from xlmr.feedback.parquet import erase_from, write_days


def read(directory: Path) -> list[dict[str, object]]:
    found = pyarrow.dataset.dataset(directory, partitioning="hive", format="parquet")
    return found.to_table().to_pylist()


def test_days_are_directories(tmp_path: Path) -> None:
    records = [record(n, at=MIDNIGHT - 1 + n, subject=f"s{n % 2}", text="x") for n in range(4)]
    written = write_days(records, tmp_path / "out")
    assert written == {"2024-03-04": 1, "2024-03-05": 3}
    rows = read(tmp_path / "out")
    assert [row["id"] for row in rows] == [r.id for r in records]
    moment = datetime.datetime(2024, 3, 5, tzinfo=datetime.UTC)
    assert (rows[1]["event_timestamp"], str(rows[1]["day"])) == (moment, "2024-03-05")
    assert rows[0]["abstained"] is None
    # Again, with one more: the day's file is replaced whole.
    assert write_days([*records[1:], record(5)], tmp_path / "out") == {"2024-03-05": 4}
    assert len(read(tmp_path / "out")) == 5
    assert erase_from(tmp_path / "out", "s1") == 2
    assert {row["subject"] for row in read(tmp_path / "out")} == {"s0", ""}
    assert erase_from(tmp_path / "out", "s1") == 0
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.name for path in left} == {"records.parquet"}


def test_what_cannot_be_written_or_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        write_days([record(1)], tmp_path / "file")
    broken = tmp_path / "day=2024-03-05" / "records.parquet"
    os.makedirs(broken.parent)
    broken.write_bytes(b"not parquet")
    with pytest.raises(DataError):
        erase_from(tmp_path, "s1")
