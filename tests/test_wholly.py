"""Files that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from xlmr.wholly import appearing, write_whole


def test_a_file_appears_with_all_that_was_written(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "größer")
    write_whole(tmp_path / "b", b"\x00\xff")
    with appearing(tmp_path / "a") as file:
        file.write(b"other")
        file.flush()
        # Until the end there is what was there before.
        assert (tmp_path / "a").read_text("utf-8") == "größer"
    assert (tmp_path / "a").read_bytes() == b"other"
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_fault_leaves_what_was_there_and_nothing_beside(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "before")

    def fails() -> None:
        with appearing(tmp_path / "a") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]
    with pytest.raises(OSError, match="No such file"):
        write_whole(tmp_path / "none" / "a", "x")


def test_two_who_write_at_once_do_not_mix(tmp_path: Path) -> None:
    with appearing(tmp_path / "a") as first:
        first.write(b"first, and long")
        with appearing(tmp_path / "a") as second:
            second.write(b"second")
        assert (tmp_path / "a").read_bytes() == b"second"
    assert (tmp_path / "a").read_bytes() == b"first, and long"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
