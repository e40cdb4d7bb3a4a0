"""A request as doors see it: its head at once, its body when they ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from xlmr.serving.http.problems import BodyTooLargeError, Reply


class ClientGoneError(Exception):
    """The client hung up before its request was complete; there is nobody to answer."""


class Request:
    """One request on its way in. Belongs to the event loop of its connection.

    Attributes:
        method: in upper case.
        path: percent signs decoded, without the query.
        headers: in their order, names in lower case.
        params: what stands in the path where its pattern has a name.
        keeps: whether the connection may carry another request after this one.
        complete: whether its last byte is here.
        gone: whether the client hung up.
        leaving: called when it does.
        buffered: bytes of the body that nobody has asked for.
        wanted: whether somebody has asked for the body, or will not any more.
        on_wanted: called when that becomes so.
    """

    __slots__ = (
        "_parts",
        "_waiter",
        "buffered",
        "complete",
        "gone",
        "headers",
        "keeps",
        "leaving",
        "method",
        "on_wanted",
        "params",
        "path",
        "wanted",
    )

    def __init__(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[bytes, bytes]] = (),
        *,
        keeps: bool = True,
        on_wanted: Callable[[], None] = lambda: None,
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.params: Mapping[str, str] = {}
        self.keeps = keeps
        self.complete = self.gone = self.wanted = False
        self.leaving: set[Callable[[], object]] = set()
        self.buffered = 0
        self.on_wanted = on_wanted
        self._parts: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None

    def header(self, name: bytes) -> bytes:
        """The first header of that (lower case) name, empty where there is none."""
        for key, value in self.headers:
            if key == name:
                return value
        return b""

    async def body(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes, whether its length was declared or not. Once.

        Raises:
            BodyTooLargeError: more than that; what still comes of it is dropped.
            ClientGoneError: the client hung up.
        """
        declared = self.header(b"content-length")
        if declared and int(declared) > limit:
            self.drop()
            raise _too_large(limit)
        self._want()
        while not self.complete:
            if self.gone:
                raise ClientGoneError
            if self.buffered > limit:
                break
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.buffered > limit:
            self.drop()
            raise _too_large(limit)
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def drop(self) -> None:
        """Nobody will ask for the body: what is here of it, and what still comes, is let go."""
        self._parts.clear()
        self.buffered = -1
        self._want()

    def feed(self, part: bytes) -> None:
        """More of the body has come."""
        if self.buffered < 0:
            return
        self._parts.append(part)
        self.buffered += len(part)
        self._wake()

    def end(self) -> None:
        """The last byte has come."""
        self.complete = True
        self._wake()

    def lose(self) -> None:
        """The client hung up."""
        self.gone = True
        self._wake()
        for leave in tuple(self.leaving):
            leave()

    def _want(self) -> None:
        if not self.wanted:
            self.wanted = True
            self.on_wanted()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


# What answers requests; with nothing where nobody waits any more.
App: TypeAlias = Callable[[Request], Awaitable[Reply | None]]


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body exceeds {limit} bytes", hint="send fewer texts at once")
