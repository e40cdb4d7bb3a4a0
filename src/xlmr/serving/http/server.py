"""The web server's life: listen, load, say so, and on a signal drain before the doors close.

It listens before its models are loaded, so that the health pages can tell how far they are. On
SIGTERM readiness falls at once; for `pause_seconds` requests are still answered, since load
balancers need a moment to notice; then new questions are refused with a time to come back, and what
is in flight, queued work included, is answered. Only then the doors close: HTTP, then the others.
SIGINT knows no pause. A second signal, or `drain_seconds` after the pause, ends the wait.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from types import FrameType
from typing import TYPE_CHECKING, Protocol

import uvicorn

from xlmr.errors import SettingsError, XlmrError
from xlmr.serving.dataplane import Dataplane
from xlmr.serving.http.connection import Connection, patient
from xlmr.serving.http.request import App

if TYPE_CHECKING:
    from xlmr.serving.entry import Tls

logger = logging.getLogger("xlmr.serving.http")

_WHAT_TO_DO = {
    errno.EADDRINUSE: "another process has the port; stop it, or --port 0 takes a free one",
    errno.EACCES: "ports below 1024 are for privileged processes; take another with --port",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address; check --host",
}


class Door(Protocol):
    """Another entrance to the same data plane, opened after HTTP's and closed after it."""

    async def open(self) -> None:
        """Listens.

        Raises:
            SettingsError: the address cannot be had.
        """

    async def close(self) -> None:
        """Closes; what it has in flight is answered already."""


class Server(uvicorn.Server):
    """uvicorn with an orderly beginning and end.

    Args:
        app: the HTTP doors.
        plane: what they ask.
        tls: certificate and key; None speaks plain HTTP.
        drain_seconds: longest wait for what is in flight.
        pause_seconds: how long requests are still taken after SIGTERM.
        client_seconds: how long a client may take to send a request, or leave an answer untaken.
        doors: other entrances.
        load: begins to load the models, once it listens.
        on_listening: told that the HTTP door is open.
        on_started: told that the models are loaded.
        on_stopped: awaited after the doors have closed.

    Attributes:
        fault: why it stopped by itself; None where it was asked to.
    """

    def __init__(
        self,
        app: App,
        plane: Dataplane,
        *,
        tls: Tls | None = None,
        drain_seconds: float,
        pause_seconds: float = 0.0,
        client_seconds: float = 30.0,
        doors: Sequence[Door] = (),
        load: Callable[[], Future[None]] | None = None,
        on_listening: Callable[[], None] = lambda: None,
        on_started: Callable[[], None] = lambda: None,
        on_stopped: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                http=patient(client_seconds),  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                ssl_certfile=None if tls is None else tls.cert,
                ssl_keyfile=None if tls is None else tls.key,
                timeout_graceful_shutdown=max(1, round(drain_seconds)),
            )
        )
        self._plane = plane
        self._drain_seconds = drain_seconds
        self._pause_seconds = pause_seconds
        self._doors = doors
        self._load = load
        self._loading: asyncio.Task[None] | None = None
        self._on_listening = on_listening
        self._on_started = on_started
        self._on_stopped = on_stopped
        self._refuses_from: float | None = None
        self._drained_by: float | None = None
        self.fault: BaseException | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, says so, and begins to load."""
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        try:
            for door in self._doors:
                await door.open()
        except XlmrError as fault:
            # Not at once: a server that is told to stop here would skip its shutdown.
            loop.call_soon(self._give_up, fault)
            return
        self._on_listening()
        self._loading = loop.create_task(self._begin())

    async def _begin(self) -> None:
        if self._load is not None:
            loaded = asyncio.wrap_future(self._load())
            await asyncio.wait([loaded])
            fault = loaded.exception()
            if fault is not None:
                self._give_up(fault)
                return
        self._on_started()

    def _give_up(self, fault: BaseException) -> None:
        self.fault = fault
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Closes the doors, then what only an event loop can close."""
        if self._loading is not None:
            self._loading.cancel()
        await super().shutdown(sockets)
        for door in self._doors:
            await door.close()
        if self._on_stopped is not None:
            await self._on_stopped()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends at once."""
        if self._drained_by is None:
            self.drain(pause_seconds=self._pause_seconds if sig == signal.SIGTERM else 0.0)
        else:
            self.should_exit = self.force_exit = True

    def drain(self, *, pause_seconds: float = 0.0) -> None:
        """Readiness falls; after the pause the server stops once nothing is in flight."""
        self._plane.retire()
        self._refuses_from = time.monotonic() + pause_seconds
        self._drained_by = self._refuses_from + self._drain_seconds
        if not pause_seconds:
            self._plane.drain()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: is there a reason to stop? Once: is anybody waited for too long?"""
        now = time.monotonic()
        if counter % 10 == 0:
            for connection in tuple(self.server_state.connections):
                assert isinstance(connection, Connection)
                connection.look(now)
        if self._drained_by is not None and self._refuses_from is not None:
            if now < self._refuses_from:
                return await super().on_tick(counter)
            self._plane.drain()
            late = now > self._drained_by
            if late and not self._plane.idle:
                logger.warning("stopping with requests in flight: draining took too long")
            self.should_exit = self.should_exit or self._plane.idle or late
        return await super().on_tick(counter)


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet; port 0 takes a free one.

    Raises:
        SettingsError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as fault:
        bound.close()
        raise SettingsError(
            f"cannot listen on {host}:{port}: {fault.strerror or fault}",
            hint=_WHAT_TO_DO.get(fault.errno or 0, "check --host and --port"),
        ) from fault
    return bound


def address_of(bound: socket.socket, *, tls: bool = False) -> str:
    """`http://127.0.0.1:8080`."""
    host, port = bound.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
