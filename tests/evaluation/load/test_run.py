"""The load against servers over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from xlmr.errors import InputError
from xlmr.evaluation.load.connections import Connections
from xlmr.evaluation.load.run import send
from xlmr.evaluation.load.traffic import Ask

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    met: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        met.append(task)
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}/base"
    finally:
        server.close()
        await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.gather(*met, return_exceptions=True), 10)


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head, await reader.readexactly(length)


def answer(status: int, body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 %d Said" % status, b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def asks(count: int, *, gap_s: float) -> list[Ask]:
    return [Ask(i * gap_s, "/v1/embeddings", b'{"n": %d}' % i) for i in range(count)]


def test_requests_go_out_whole_and_connections_are_kept() -> None:
    met: list[tuple[bytes, bytes]] = []
    opened = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                met.append(await read_request(reader))
                writer.write(answer(200, b"x" * 100_000))

    async def run() -> None:
        async with serving(handler) as address:
            connections = Connections(address)
            for i in range(5):
                reply = await connections.post("/path", b"%d" % i, b"x-a: b\r\n")
                assert (reply.status, len(reply.body)) == (200, 100_000)
            connections.close()

    asyncio.run(run())
    assert [body for _, body in met] == [b"0", b"1", b"2", b"3", b"4"]
    assert all(head.startswith(b"POST /base/path HTTP/1.1\r\n") for head, _ in met)
    assert all(b"x-a: b\r\n" in head for head, _ in met)
    assert opened == 1


def test_arrivals_do_not_wait_for_a_server_that_stalls() -> None:
    """The first answer is held until the last request has arrived."""
    arrived = 0

    async def run() -> list[float]:
        nonlocal arrived
        here = asyncio.Event()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal arrived
            with contextlib.suppress(asyncio.IncompleteReadError):
                while True:
                    await read_request(reader)
                    arrived += 1
                    if arrived == 20:
                        here.set()
                    await here.wait()
                    writer.write(answer(200, b"{}"))

        async with serving(handler) as address:
            connections = Connections(address)
            outcomes = await send(asks(20, gap_s=0.005), connections)
            connections.close()
        assert [one.status for one in outcomes] == [200] * 20
        return [one.seconds for one in outcomes]

    seconds = asyncio.run(run())
    # Latency counts from arrival: who came first waited longest.
    assert seconds[0] > seconds[10] > 0
    assert seconds[0] >= 0.09


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (answer(429, b"{}"), 429),
        (answer(200, b"{}", b"connection: close"), 200),
        (b"nonsense\r\n\r\n", 0),
        (b"", 0),
        (b"HTTP/1.1 200 Said\r\ncontent-length: 10\r\n\r\nhalf", 0),
    ],
)
def test_whatever_a_server_says_each_request_has_an_outcome(said: bytes, status: int) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await read_request(reader)
            writer.write(said)

    async def run() -> None:
        async with serving(handler) as address:
            connections = Connections(address)
            outcomes = await send(asks(5, gap_s=0.001), connections)
            connections.close()
        assert [one.status for one in outcomes] == [status] * 5

    asyncio.run(run())


def test_a_server_that_is_not_there_is_an_outcome() -> None:
    async def run() -> None:
        connections = Connections("http://127.0.0.1:9")
        assert [one.status for one in await send(asks(2, gap_s=0), connections)] == [0, 0]

    asyncio.run(run())


@pytest.mark.parametrize("address", ["localhost:80", "https://a:1", "http://"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(InputError, match="http://HOST:PORT"):
        Connections(address)
