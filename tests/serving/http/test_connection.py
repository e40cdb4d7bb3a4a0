"""What clients say and do not say; slow, silent and vanished ones are not waited for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.serving.http.connection import Connection
from xlmr.serving.http.problems import Reply
from xlmr.serving.http.request import App, Request

WAIT_S = 20

# What arrives where these parts are received.
Wire = Callable[[list[bytes]], list[bytes]]


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


# --- what a client may say, and what is heard ---


def heads(said: bytes) -> list[bytes]:
    """The status lines in what a server said."""
    return re.findall(rb"HTTP/1\.1 \d+ [^\r]*", said)


def one_byte_each(connection: socket.socket, said: bytes) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in said:
        connection.sendall(bytes([byte]))


CHUNKED = (
    b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
)


def test_requests_in_one_piece_are_answered_in_their_order(house_of) -> None:
    bodies = [json.dumps({"input": ["hello"] * n, "model": "router"}).encode() for n in (3, 1, 2)]
    sent = b"".join(request(body, keep=n < 2) for n, body in enumerate(bodies))
    with house_of("router") as house, connected(house) as connection:
        connection.sendall(sent)
        said = everything(connection)
    assert heads(said) == [b"HTTP/1.1 200 OK"] * 3
    answers = [part.split(b"\r\n\r\n", 1)[1] for part in said.split(b"HTTP/1.1 200 OK")[1:]]
    assert [len(json.loads(answer)["items"]) for answer in answers] == [3, 1, 2]


def test_requests_byte_by_byte_are_answered(house_of) -> None:
    with house_of("router") as house, connected(house) as connection:
        one_byte_each(connection, request(HELLO) + request(HELLO, keep=False))
        assert heads(everything(connection)) == [b"HTTP/1.1 200 OK"] * 2


def test_a_body_in_chunks_is_read(house_of) -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (1, bytes([byte])) for byte in HELLO)
    with house_of("router") as house, connected(house) as connection:
        connection.sendall(CHUNKED + chunks + b"0\r\n\r\n")
        assert heads(everything(connection)) == [b"HTTP/1.1 200 OK"]


def test_a_broken_chunk_is_the_clients_fault(house_of) -> None:
    with house_of("router") as house, connected(house) as connection:
        connection.sendall(CHUNKED + b"5\r\nhello")
        connection.sendall(b"nonsense")
        assert heads(everything(connection)) == [b"HTTP/1.1 400 Bad Request"]
        house.until(lambda: house.plane.idle)
        assert house.classify(input="hello").status_code == 200


def test_what_is_no_http_is_refused_after_what_was(house_of) -> None:
    with house_of("router") as house:
        with connected(house) as connection:
            connection.sendall(b"\x16\x03\x01 nobody speaks this here\r\n\r\n")
            assert heads(everything(connection)) == [b"HTTP/1.1 400 Bad Request"]
        with connected(house) as connection:
            connection.sendall(request(HELLO) + b"\x00\x01\x02\r\n\r\n")
            assert heads(everything(connection)) == [b"HTTP/1.1 200 OK"]


def test_both_ways_to_say_a_length_at_once_are_refused(house_of) -> None:
    """Where two servers read such a request differently, one is made to see another request."""
    smuggled = CHUNKED.replace(b"connection: close", b"content-length: 6")
    with house_of("router") as house, connected(house) as connection:
        connection.sendall(smuggled + b"0\r\n\r\nGET /livez HTTP/1.1\r\n\r\n")
        assert heads(everything(connection)) == [b"HTTP/1.1 400 Bad Request"]


def test_a_head_without_end_is_refused(house_of) -> None:
    with house_of("router") as house, connected(house) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\nx-long: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(40):
                connection.sendall(b"a" * 4096)
        said = everything(connection)
        # A reset may overtake it: we hang up while it still sends.
        assert heads(said) in ([b"HTTP/1.1 431 Request Header Fields Too Large"], [])
        house.until(lambda: not house.server.server_state.connections)


def test_who_asks_first_whether_to_send_is_told_to_go_on(house_of) -> None:
    head, _, _ = request(HELLO, keep=False).partition(b"\r\n\r\n")
    with house_of("router") as house, connected(house) as connection:
        connection.sendall(head + b"\r\nexpect: 100-continue\r\n\r\n")
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(HELLO)
        assert heads(everything(connection)) == [b"HTTP/1.1 200 OK"]


def test_who_may_not_send_is_not_told_to(house_of) -> None:
    head = b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    with house_of("router") as house, connected(house) as connection:
        connection.sendall(head + b"content-length: 99999999999\r\nexpect: 100-continue\r\n\r\n")
        assert everything(connection).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("cut", [10, 170, 1000])
def test_other_protocols_are_not_spoken_and_the_request_is_answered(house_of, cut: int) -> None:
    head, _, _ = request(HELLO).partition(b"\r\n\r\n")
    upgrade = b"\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\r\n"
    sent = head + upgrade + HELLO + request(HELLO, keep=False)
    with house_of("router") as house, connected(house) as connection:
        connection.sendall(sent[:cut])
        time.sleep(0.05)
        connection.sendall(sent[cut:])
        assert heads(everything(connection)) == [b"HTTP/1.1 200 OK"] * 2


def test_it_is_no_proxy(house_of) -> None:
    with house_of("router") as house, connected(house) as connection:
        connection.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org\r\n\r\n")
        assert heads(everything(connection)) == [b"HTTP/1.1 400 Bad Request"]


@pytest.mark.parametrize("keep", [b"", b"connection: keep-alive\r\n"])
def test_http_1_0_gets_one_answer(house_of, keep: bytes) -> None:
    with house_of("router") as house, connected(house) as connection:
        connection.sendall(b"GET /livez HTTP/1.0\r\n" + keep + b"\r\n")
        said = everything(connection)
    assert heads(said) == [b"HTTP/1.1 200 OK"]
    assert b"\r\nconnection: close\r\n" in said


def test_head_has_the_length_and_no_body(house_of) -> None:
    with house_of("router") as house:
        got, asked = house.client.get("/livez"), house.client.head("/livez")
        assert asked.status_code == 200
        assert asked.headers["content-length"] == got.headers["content-length"]
        assert asked.content == b""
        # Had it a body, the next answer on this connection would begin with it.
        assert house.client.get("/livez").json() == {"live": True}


def test_targets_are_read_as_the_protocol_says(house_of) -> None:
    with house_of("router") as house:
        for target in ("/livez?a=b", "/%6civez", f"{house.address}/livez"):
            with connected(house) as connection:
                connection.sendall(
                    b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % target.encode()
                )
                assert heads(everything(connection)) == [b"HTTP/1.1 200 OK"], target
        assert house.client.get("/v1/models/rou%74er").json()["name"] == "router"
        assert house.client.get("/v1/models/a%2Fb").status_code == 404


def test_a_body_nobody_asked_for_yet_is_not_swallowed_whole(house_of, monkeypatch) -> None:
    """Who asks is looked up first; meanwhile a stranger's body fills no memory."""
    with house_of("router") as house, connected(house) as connection:
        held, seen = threading.Event(), []
        caller = type(house.plane).caller

        async def slow(self: Any, credential: str, role: str | None) -> Any:
            [kept] = list(house.server.server_state.connections)
            while not held.is_set():
                await asyncio.sleep(0.01)
                seen.append(kept._current.buffered)
            return await caller(self, credential, role)

        monkeypatch.setattr(type(house.plane), "caller", slow)
        body = HELLO + b" " * 4_000_000
        sending = threading.Thread(target=connection.sendall, args=(request(body, keep=False),))
        sending.start()
        house.until(lambda: len(seen) > 30)
        held.set()
        assert heads(everything(connection)) == [b"HTTP/1.1 200 OK"]
        sending.join(WAIT_S)
        assert max(seen) < 1_000_000


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_bytes_cut_anywhere_mean_the_same(wire: Wire, data: st.DataObject) -> None:
    whole = request(b"[1]") + CHUNKED.replace(b"connection: close\r\n", b"")
    whole += b"3\r\n[2]\r\n0\r\n\r\n" + request(b"[3]", keep=False)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    parts = [whole[a:b] for a, b in itertools.pairwise([0, *cuts, len(whole)])]
    assert wire(parts) == [b"[1]", b"[2]", b"[3]"]


@pytest.fixture(scope="module")
def wire() -> Wire:
    """The bodies that arrive where these parts are received, on a connection without a socket."""

    def run(parts: list[bytes]) -> list[bytes]:
        bodies: list[bytes] = []

        async def app(request: Request) -> Reply:
            bodies.append(await request.body(100))
            return Reply(b"")

        async def live() -> None:
            state = SimpleNamespace(connections=set(), tasks=set(), default_headers=[])
            connection = Connection(SimpleNamespace(loaded_app=app), state, patience_seconds=WAIT_S)
            transport = Written()
            connection.connection_made(transport)
            for part in parts:
                if part:
                    connection.data_received(part)
                await asyncio.sleep(0)
            while state.tasks:
                await asyncio.sleep(0)
            assert transport.closed
            assert len(heads(b"".join(transport.written))) == len(bodies)

        asyncio.run(live())
        return bodies

    return run


def test_what_waits_on_one_connection_gives_way_to_the_others() -> None:
    """A page is shown without waiting for anything: so many of them would stop the loop."""
    seen: list[str] = []

    async def app(request: Request) -> Reply:
        seen.append(request.path)
        return Reply(b"")

    async def live() -> None:
        connection, _ = connection_of(app)
        connection.data_received(b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % n for n in range(3)))
        while len(seen) < 4:
            await asyncio.sleep(0)
            seen.append("others")
        connection.transport.close()

    asyncio.run(live())
    assert seen[:4] == ["/0", "others", "/1", "others"]


def test_a_connection_that_rests_is_not_waited_for_and_goes_without_a_trace() -> None:
    async def app(request: Request) -> Reply:
        return Reply(b"")

    async def live() -> None:
        connection, state = connection_of(app)
        for _ in range(2):
            connection.data_received(b"GET / HTTP/1.1\r\n\r\n")
            assert len(state.tasks) == 1
            await asyncio.sleep(0.01)
            assert not state.tasks
        connection.transport.close()
        connection.connection_lost(None)
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(live())


def connection_of(app: App) -> tuple[Connection, SimpleNamespace]:
    """A connection without a socket, and what it tells the server."""
    state = SimpleNamespace(connections=set(), tasks=set(), default_headers=[])
    connection = Connection(SimpleNamespace(loaded_app=app), state, patience_seconds=WAIT_S)
    connection.connection_made(Written())
    return connection, state


class Written(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...
