"""Keep-alive HTTP/1.1 connections, light: the load must not need the cores it measures."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httptools

from xlmr.errors import InputError


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    body: bytes


class Connections:
    """Connections to one server: an idle one is taken again, else another is opened.

    A server that answers slowly is met by as many connections as there are callers waiting, up to
    `most`; who comes later waits for one, and that wait counts as the server's.
    """

    def __init__(self, address: str, *, most: int = 512) -> None:
        parts = urlsplit(address)
        if parts.scheme != "http" or not parts.hostname:
            raise InputError(f"{address}: expected http://HOST:PORT")
        self._host, self._port = parts.hostname, parts.port or 80
        self._prefix = parts.path.rstrip("/")
        self._idle: list[_Connection] = []
        self._room = asyncio.Semaphore(most)

    async def post(self, path: str, body: bytes, headers: bytes = b"") -> Reply:
        """Sends JSON and waits for the answer; see `request`."""
        return await self.request("POST", path, body, headers)

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: bytes = b""
    ) -> Reply:
        """Sends one request, its body JSON if it has one, and waits for its answer.

        Raises:
            OSError: the server cannot be reached, or hung up before it had answered.
        """
        request = self._request(method, path, body, headers)
        async with self._room:
            kept = self._kept()
            if kept is not None:
                try:
                    return await self._ask(kept, request)
                except ConnectionResetError:
                    # It may have been closed while it lay idle, as every server does some time.
                    if kept.heard:
                        raise
            return await self._ask(await self._open(), request)

    def close(self) -> None:
        """Hangs up."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _ask(self, connection: _Connection, request: bytes) -> Reply:
        try:
            reply = await connection.ask(request)
        except BaseException:
            connection.close()
            raise
        if connection.usable:
            self._idle.append(connection)
        else:
            connection.close()
        return reply

    async def _open(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, self._host, self._port)
        return connection

    def _request(self, method: str, path: str, body: bytes, headers: bytes) -> bytes:
        head = (
            f"{method} {self._prefix}{path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        )
        return head.encode() + headers + b"\r\n" + body


@dataclass(slots=True, eq=False)
class _Connection(asyncio.Protocol):
    usable: bool = True
    heard: bool = False  # a first byte of the answer that is waited for
    _transport: Any = None
    _parser: Any = None
    _waiting: asyncio.Future[Reply] | None = None
    _parts: list[bytes] = field(default_factory=list)

    async def ask(self, request: bytes) -> Reply:
        self._parser = httptools.HttpResponseParser(self)
        self._parts, self.heard = [], False
        self._waiting = asyncio.get_running_loop().create_future()
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the server hung up")
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as fault:
            self._fail(ConnectionError(f"the answer is no HTTP: {fault}"))

    def connection_lost(self, fault: Exception | None) -> None:
        self.usable = False
        self._fail(fault or ConnectionResetError("the server hung up"))

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self.usable = self.usable and self._parser.should_keep_alive()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(Reply(self._parser.get_status_code(), b"".join(self._parts)))

    def _fail(self, fault: Exception) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(fault)
