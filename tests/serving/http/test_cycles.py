"""Requests leave nothing for the collector: its pauses come when there is least time for them."""

from __future__ import annotations

import gc
import json
import socket
from collections.abc import Iterator

import pytest

from xlmr.serving.http.request import Request
from xlmr.serving.question import Question
from xlmr.serving.recording import Life

PER_REQUEST = Request | Question | Life


@pytest.fixture
def kept() -> Iterator[list[object]]:
    """What the collector finds to be in a ring, instead of freeing it."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize(
    ("text", "deadline_ms", "status"),
    [("hello", 60_000, b"200"), ("hello", 0, b"429"), ("", 60_000, b"200"), (3, 60_000, b"422")],
    ids=["answered", "late", "empty", "no text"],
)
def test_no_ring_is_left(house_of, kept, text, deadline_ms: int, status: bytes) -> None:
    body = json.dumps({"input": text, "model": "router"}).encode()
    head = (
        f"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"x-request-deadline-ms: {deadline_ms}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with house_of("router") as house:
        host, port = house.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as line:
            for _ in range(5):
                line.sendall(head.encode() + body)
                assert line.recv(65536).startswith(b"HTTP/1.1 " + status)
            kept.clear()
            gc.collect()
            rings = [type(one).__name__ for one in kept if isinstance(one, PER_REQUEST)]
    assert rings == []
