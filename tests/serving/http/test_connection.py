"""Slow clients, silent ones and those that vanish: none is waited for without end."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

WAIT_S = 20


@contextlib.contextmanager
def connected(house: Any) -> Iterator[socket.socket]:
    host, port = house.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as connection:
        yield connection


def request(body: bytes, *, path: bytes = b"/v1/classify", keep: bool = True) -> bytes:
    connection = b"" if keep else b"connection: close\r\n"
    return (
        b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n%s"
        b"content-length: %d\r\n\r\n%s" % (path, connection, len(body), body)
    )


def everything(connection: socket.socket) -> bytes:
    """What the server still says before it closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


HELLO = json.dumps({"input": "hello", "model": "router"}).encode()


@pytest.mark.parametrize(
    "said",
    [b"", request(HELLO)[:20], request(HELLO)[:-3]],
    ids=["nothing", "part of the head", "part of the body"],
)
def test_a_request_that_does_not_arrive_is_ended(house_of, said: bytes) -> None:
    with house_of("router", client_seconds=1) as house, connected(house) as connection:
        connection.sendall(said)
        assert everything(connection).startswith(b"HTTP/1.1 408 ")
        house.until(lambda: not house.server.server_state.connections)
        assert house.classify(input="hello").status_code == 200


def test_bytes_now_and_then_do_not_buy_more_time(house_of) -> None:
    with house_of("router", client_seconds=1) as house, connected(house) as connection:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in request(HELLO + b" " * 5000):
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
                assert time.monotonic() - began < WAIT_S
        assert b" 408 " in everything(connection) or time.monotonic() - began < WAIT_S
        house.until(lambda: not house.server.server_state.connections)


def test_a_slow_client_whose_request_arrives_is_answered(house_of) -> None:
    with house_of("router", client_seconds=5) as house, connected(house) as connection:
        sent = request(HELLO, keep=False)
        for first in range(0, len(sent), 20):
            connection.sendall(sent[first : first + 20])
            time.sleep(0.02)
        assert everything(connection).startswith(b"HTTP/1.1 200 ")


def test_a_second_request_has_its_own_time(house_of) -> None:
    with house_of("router", client_seconds=2) as house, connected(house) as connection:
        for _ in range(4):
            connection.sendall(request(HELLO)[:30])
            time.sleep(0.7)
            connection.sendall(request(HELLO)[30:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_time_in_the_queue_is_not_the_clients(house_of) -> None:
    with house_of("router", client_seconds=1) as house, connected(house) as connection:
        house.gated.gate.clear()
        connection.sendall(request(HELLO, keep=False))
        assert house.gated.entered.acquire(timeout=WAIT_S)
        time.sleep(1.5)
        house.gated.gate.set()
        assert everything(connection).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_takes_no_answer_is_let_go(house_of) -> None:
    texts = [f"hello {number}" for number in range(200)]
    body = json.dumps({"input": texts, "model": "router", "encoding_format": "float"}).encode()
    with house_of("router", client_seconds=1) as house, connected(house) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # So many answers that no buffer holds them all, and none is read.
        with contextlib.suppress(ConnectionError, TimeoutError):
            connection.settimeout(0.2)
            for _ in range(400):
                connection.sendall(request(body, path=b"/v1/embeddings"))
        house.until(lambda: not house.server.server_state.connections)
        assert house.classify(input="hello").status_code == 200


def test_a_client_that_is_reset_is_forgotten(house_of) -> None:
    with house_of("router") as house:
        house.gated.gate.clear()
        with connected(house) as connection:
            connection.sendall(request(HELLO))
            assert house.gated.entered.acquire(timeout=WAIT_S)
            # Closing now sends RST, as a machine does that came up again and knows nothing.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        house.gated.gate.set()
        house.until(lambda: house.plane.idle)
        house.until(lambda: not house.server.server_state.connections)


def test_silent_peers_are_probed(house_of) -> None:
    """What a half-open connection is found out by; the probes themselves are the kernel's."""
    with house_of("router") as house, connected(house) as connection:
        connection.sendall(request(HELLO))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        [kept] = list(house.server.server_state.connections)
        socket_ = kept.transport.get_extra_info("socket")
        assert socket_.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            seconds = socket_.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1000
            assert 10 <= seconds <= 60
