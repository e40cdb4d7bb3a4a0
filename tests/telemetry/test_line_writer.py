from __future__ import annotations

import io
import os
import threading

import pytest

from xlmr.telemetry.line_writer import LineWriter


class Full(io.RawIOBase):
    """A disk with room for so many bytes; more room can be made."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        if not self.room:
            raise OSError(28, "No space left on device")
        taken = bytes(data[: self.room])
        self.room -= len(taken)
        self.data += taken
        return len(taken)


def writer(stream, **options) -> tuple[LineWriter[str], list[int]]:
    dropped: list[int] = []
    return LineWriter(stream, str.encode, on_drop=dropped.append, **options), dropped


def test_lines_come_whole_and_in_order():
    stream = io.BytesIO()
    lines, dropped = writer(stream)
    for number in range(1000):
        lines.put(f"line {number}")
    lines.flush()
    assert stream.getvalue().decode().splitlines() == [f"line {n}" for n in range(1000)]
    lines.put("more")
    lines.close()
    lines.close()
    assert stream.getvalue().endswith(b"\nmore\n")
    assert not dropped


def test_many_threads_lose_nothing():
    stream = io.BytesIO()
    lines, dropped = writer(stream)

    def work(name: str) -> None:
        for number in range(500):
            lines.put(f"{name} {number}")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines.close()
    written = stream.getvalue().decode().splitlines()
    assert sorted(written) == sorted(f"{name} {n}" for name in "abcd" for n in range(500))
    assert not dropped


def test_what_finds_no_space_is_counted_and_half_a_line_spoils_no_other():
    disk = Full(room=len("first\nsec"))
    lines, dropped = writer(disk)
    for line in ("first", "second", "third"):
        lines.put(line)
    lines.flush()
    assert disk.data == b"first\nsec"
    assert sum(dropped) == 2
    disk.room = 1000
    lines.put("fourth")
    lines.close()
    assert disk.data == b"first\nsec\nfourth\n"
    assert sum(dropped) == 2


def test_a_full_device_drops_everything_and_nothing_is_raised():
    with open("/dev/full", "wb") as device:
        lines, dropped = writer(device)
        lines.put("one")
        lines.put("two")
        lines.close()
        assert sum(dropped) == 2


@pytest.mark.parametrize("broken", ["none", "closed", "no reader"])
def test_a_stream_that_is_gone_costs_lines_alone(broken):
    stream = None
    if broken == "closed":
        stream = io.BytesIO()
        stream.close()
    elif broken == "no reader":
        reader, end = os.pipe()
        os.close(reader)
        stream = os.fdopen(end, "wb", buffering=0)
    lines, dropped = writer(stream)
    lines.put("one")
    lines.close()
    assert sum(dropped) == 1
    if stream is not None:
        stream.close()


def test_a_reader_that_stands_still_makes_nobody_wait():
    reader, end = os.pipe()
    stream = os.fdopen(end, "wb", buffering=0)
    lines, dropped = writer(stream, most_waiting=100)
    line = "x" * 10_000
    while len(dropped) < 1000:
        lines.put(line)
    with os.fdopen(reader, "rb") as pipe:
        threading.Thread(target=lines.close).start()
        assert pipe.readline() == line.encode() + b"\n"
        os.set_blocking(reader, False)
        while lines._outbox._thread.is_alive():
            pipe.read(100_000)
    stream.close()


def test_a_pipe_that_takes_nothing_for_a_moment_gets_the_rest_later():
    reader, end = os.pipe()
    os.set_blocking(end, False)
    stream = os.fdopen(end, "wb", buffering=0)
    lines, dropped = writer(stream)
    lines.put("x" * 200_000)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.readline() == b"x" * 200_000 + b"\n"
    lines.close()
    assert not dropped
    stream.close()


def test_a_line_that_cannot_be_rendered_costs_itself():
    stream = io.BytesIO()
    lines, dropped = writer(stream)
    for line in ("one", "half \ud800", "two"):
        lines.put(line)
    lines.close()
    assert stream.getvalue() == b"one\ntwo\n"
    assert dropped == [1]
