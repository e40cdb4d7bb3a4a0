"""A client's connection: bytes become requests, replies become bytes, nobody waits for ever.

A request must arrive whole within `patience_seconds` of its first byte, and an answer that cannot
be written must move within as many; a client that vanished without a word (its machine lost power)
is found out by TCP's own probes. All three end with the connection closed, and whatever was
computed for it is cancelled.

uvicorn carries the server's life and makes one of these for each connection, in the place of its
own, which speak ASGI. Replies here are whole, so head and body leave in one call to the system, and
time is looked at for all connections together, about once a second.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import httptools

from xlmr.serving.http.problems import Reply
from xlmr.serving.http.request import App, Request

logger = logging.getLogger("xlmr.serving.http")

# Load balancers commonly keep theirs for 60 seconds; who closes first must not be the server.
KEEP_ALIVE_SECONDS = 75.0
# A body that nobody has asked for yet is read so far.
_UNASKED_BYTES = 64 * 1024
_HEAD_BYTES = 64 * 1024
# A silent peer is asked after so many seconds, then this often; three times unanswered it is gone.
_ASK_AFTER_S, _ASK_EVERY_S, _ASK_TIMES = 15, 5, 3
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


def patient(patience_seconds: float) -> Callable[..., asyncio.Protocol]:
    """What makes a connection for uvicorn.

    Args:
        patience_seconds: for a request to arrive, and for a stuck answer to move.
    """
    return partial(Connection, patience_seconds=patience_seconds)


class Connection(asyncio.Protocol):
    """One connection. uvicorn's server tells it to `shutdown`; ours tells it the time."""

    def __init__(
        self,
        config: Any,
        server_state: Any,
        app_state: object = None,
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        patience_seconds: float,
    ) -> None:
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._app: App = config.loaded_app
        self._server = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._patience_seconds = patience_seconds
        self._parser: Any = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        # Answers one request after the other, and waits in between.
        self._answering: asyncio.Task[None] | None = None
        self._rest: asyncio.Future[None] | None = None
        # What is being read, what is being answered, and what waits for that.
        self._incoming: Request | None = None
        self._current: Request | None = None
        self._pipeline: deque[Request] = deque()
        self._reading = True
        # Whatever else comes is not looked at.
        self._ended = False
        # Since when a request arrives, nothing happens, or an answer is stuck.
        self._arriving: float | None = None
        self._idle: float | None = None
        self._stuck: float | None = None

    # --- asyncio's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here."""
        self.transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)
        _ask_whether_alive(self.transport)
        # Who connects and says nothing holds a descriptor all the same.
        self._arriving = time.monotonic()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client hung up, or we did; whatever waits for it is told."""
        self._server.connections.discard(self)
        self._parser = None  # it knows us, and neither would ever go
        self._wake()
        for request in (self._current, self._incoming, *self._pipeline):
            if request is not None and not request.gone:
                request.lose()

    def data_received(self, data: bytes) -> None:
        """Some bytes, cut anywhere."""
        if self._ended or self.transport.is_closing():
            return
        if self._incoming is None:
            if self._arriving is None:
                self._arriving = time.monotonic()
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse(400, b"this is no HTTP/1.1 request\n")
            return
        if self._incoming is None and self._head_bytes > _HEAD_BYTES:
            self._refuse(431, b"the request's head is too large\n")

    def pause_writing(self) -> None:
        """The client takes no more for now."""
        self._stuck = time.monotonic()

    def resume_writing(self) -> None:
        """It takes some again."""
        self._stuck = None
        if self._current is None:
            self._next()

    # --- httptools' calls ---

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._url = b""
        self._headers = []
        self._idle = None

    def on_url(self, url: bytes) -> None:
        """Its target, or a part of it."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, whole."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Its head is here: that is enough to begin."""
        parser = self._parser
        if parser.should_upgrade():
            return
        path = httptools.parse_url(self._url).path.decode("ascii")
        request = Request(
            parser.get_method().decode("ascii"),
            unquote(path) if "%" in path else path,
            self._headers,
            keeps=parser.get_http_version() == "1.1" and parser.should_keep_alive(),
            on_wanted=self._wanted,
        )
        self._incoming = request
        self._head_bytes = 0
        if self._current is None and self._stuck is None:
            self._start(request)
        else:
            self._pipeline.append(request)
            self._pace()

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        if self._incoming is not None:
            self._incoming.feed(body)
            if self._incoming.buffered > _UNASKED_BYTES:
                self._pace()

    def on_message_complete(self) -> None:
        """Its last byte."""
        self._arriving = None
        request, self._incoming = self._incoming, None
        if request is not None:
            request.end()
            if self._current is None and not self._pipeline:
                # Its answer was out before its end was here.
                self._idle = time.monotonic()

    def _decline(self, rest: bytes) -> None:
        """Reads a request again without its wish to go on in another protocol, as servers may.

        The parser takes what follows such a head for that protocol. Java's client sends one with
        the first request of each connection, body and all.
        """
        method, kept = self._parser.get_method(), []
        if method == b"CONNECT":
            self._refuse(400, b"this is no proxy\n")
            return
        for name, value in self._headers:
            if name == b"connection" and b"close" in value.lower():
                kept.append((name, b"close"))
            elif name not in (b"connection", b"upgrade", b"http2-settings"):
                kept.append((name, value))
        head = b"".join([b"%b: %b\r\n" % header for header in kept])
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self._url, head) + rest)

    # --- the servers' calls ---

    def shutdown(self) -> None:
        """Closes as soon as what was asked is answered."""
        if self._current is None and not self._pipeline:
            self.transport.close()
            return
        for request in (self._current, *self._pipeline):
            if request is not None:
                request.keeps = False

    def look(self, now: float) -> None:
        """Is anybody waited for too long? Asked about once a second."""
        patience = self._patience_seconds
        if self._stuck is not None and now - self._stuck > patience:
            self.transport.abort()
        elif self._arriving is not None and self._reading and now - self._arriving > patience:
            if self._incoming is None or self._incoming is self._current:
                self._refuse(408, b"the request took too long to arrive\n")
            else:
                # Its answer is out already: 408 would be taken for that to the next one.
                self.transport.close()
        elif self._idle is not None and now - self._idle > KEEP_ALIVE_SECONDS:
            self.transport.close()

    # --- the life of a request here ---

    def _start(self, request: Request) -> None:
        self._current = request
        if self._answering is None or self._answering.done():
            self._answering = self._loop.create_task(self._answer())
            self._answering.add_done_callback(self._server.tasks.discard)
        else:
            self._wake()
        # What is in there is waited for when the server stops.
        self._server.tasks.add(self._answering)

    def _wake(self) -> None:
        if self._rest is not None and not self._rest.done():
            self._rest.set_result(None)

    async def _answer(self) -> None:
        """What is asked, one by one: to begin a task for each would cost as much as to read it."""
        while not self.transport.is_closing():
            if self._current is None:
                self._rest = self._loop.create_future()
                await self._rest
                continue
            await self._serve(self._current)
            if self._current is not None:
                # One that was here already: others come first.
                await asyncio.sleep(0)

    async def _serve(self, request: Request) -> None:
        try:
            reply = await self._app(request)
        except asyncio.CancelledError:
            self.transport.close()
            raise
        except Exception:
            # The last line before the event loop, which would only log it.
            logger.exception("a request failed outside its endpoint")
            reply = Reply(b"the server failed\n", 500, "text/plain", closes=True)
        if reply is None or request.gone or self.transport.is_closing():
            self.transport.close()
            return
        self._write(request, reply)
        self._current = None
        self._server.tasks.discard(self._answering)
        if not request.complete:
            request.drop()
        if not request.keeps:
            self.transport.close()
        elif self._stuck is None:
            self._next()

    def _next(self) -> None:
        """What waits is answered; where nothing does, the connection is idle from now on."""
        if self._pipeline:
            self._start(self._pipeline.popleft())
            self._pace()
        elif self._incoming is None:
            self._idle = time.monotonic()

    def _write(self, request: Request, reply: Reply) -> None:
        lines = [
            _STATUS_LINES[reply.status],
            b"content-type: %b\r\ncontent-length: %d\r\n"
            % (reply.media_type.encode(), len(reply.body)),
            *[b"%b: %b\r\n" % header for header in self._server.default_headers],
            reply.head,
        ]
        if reply.closes:
            request.keeps = False
        if not request.keeps:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        if request.method != "HEAD":
            lines.append(reply.body)
        self.transport.write(b"".join(lines))

    def _wanted(self) -> None:
        """A body is asked for, or let go; the client may be waiting to hear the first."""
        request = self._current
        if (
            request is not None
            and not request.complete
            and request.buffered == 0
            and request.header(b"expect").lower() == b"100-continue"
        ):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._pace()

    def _pace(self) -> None:
        """Reads on, unless requests wait already, or a body that nobody has asked for is long."""
        incoming = self._incoming
        unasked = (
            incoming is not None and not incoming.wanted and incoming.buffered > _UNASKED_BYTES
        )
        reading = not self._pipeline and not unasked
        if reading == self._reading or self.transport.is_closing():
            return
        self._reading = reading
        if not reading:
            self.transport.pause_reading()
            return
        self.transport.resume_reading()
        if self._arriving is not None:
            # That nobody read was not the client's doing.
            self._arriving = time.monotonic()

    def _refuse(self, status: int, said: bytes) -> None:
        """The last word on this connection, after the answers to what came before."""
        if self._current is not None and self._current is not self._incoming:
            self._end_after_last()
            return
        self._write(Request("GET", ""), Reply(said, status, "text/plain", closes=True))
        self.transport.close()

    def _end_after_last(self) -> None:
        """Nothing more is read; what was asked is answered, and the connection closes."""
        self._ended = True
        self._arriving = None
        last = self._pipeline[-1] if self._pipeline else self._current
        if last is None:
            self.transport.close()
            return
        last.keeps = False
        if not last.complete:
            last.lose()


def _ask_whether_alive(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", _ASK_AFTER_S),
        ("TCP_KEEPINTVL", _ASK_EVERY_S),
        ("TCP_KEEPCNT", _ASK_TIMES),
        # Bytes that were sent and never acknowledged: keep-alive probes do not run beside them.
        ("TCP_USER_TIMEOUT", 1000 * (_ASK_AFTER_S + _ASK_TIMES * _ASK_EVERY_S)),
    ):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
