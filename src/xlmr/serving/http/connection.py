"""A client's connection that is not waited for without end.

uvicorn waits for a request's bytes as long as its client pleases, and as long for a client to take
its answer. Here a request must arrive whole within `patience_seconds` of its first byte, and an
answer that cannot be written must move within as many; a client that vanished without a word (its
machine lost power) is found out by TCP's own probes. All three end with the connection closed, and
whatever was computed for it is cancelled.

Two more things are cheaper here than above: who waits for an answer is told that the client has
gone by a call (`scope["xlmr.gone"]`), not by a task of its own, and an answer's head and body leave
together, in one call to the system.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# A silent peer is asked after so many seconds, then this often; three times unanswered it is gone.
_ASK_AFTER_S, _ASK_EVERY_S, _ASK_TIMES = 15, 5, 3
_TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain\r\ncontent-length: 37\r\n"
    b"connection: close\r\n\r\nthe request took too long to arrive.\n"
)


def patient(patience_seconds: float) -> Callable[..., asyncio.Protocol]:
    """What makes a connection for uvicorn.

    Args:
        patience_seconds: for a request to arrive, and for a stuck answer to move.
    """
    return partial(_Connection, patience_seconds=patience_seconds)


class _Connection(HttpToolsProtocol):
    def __init__(self, *arguments: Any, patience_seconds: float, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._patience_seconds = patience_seconds
        self._arriving: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._watching: set[Callable[[], object]] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Joining(transport, self.loop))  # type: ignore[arg-type]
        _ask_whether_alive(transport)
        # Who connects and says nothing holds a descriptor all the same.
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._arriving)
        _cancel(self._stuck)
        super().connection_lost(exc)
        for leave in tuple(self._watching):
            leave()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["xlmr.gone"] = self._watching  # type: ignore[typeddict-unknown-key]
        self._expect()

    def on_message_complete(self) -> None:
        _cancel(self._arriving)
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(self._patience_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        _cancel(self._stuck)
        super().resume_writing()

    def _expect(self) -> None:
        _cancel(self._arriving)
        self._arriving = self.loop.call_later(self._patience_seconds, self._too_slow)

    def _too_slow(self) -> None:
        if self.transport.is_closing():
            return
        # Where an answer has begun already (a refusal, say), 408 would land in the middle of it.
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_TOO_SLOW)
        self.transport.close()


class _Joining:
    """A transport whose writes of one turn of the event loop leave together."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


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
