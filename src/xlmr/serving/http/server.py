"""The web server's life: listen, say so, and on a signal drain before the doors close.

On SIGTERM or SIGINT readiness falls at once and new questions are refused with a moment to come
back; what is in flight, queued work included, is answered; then the listener closes. A second
signal, or `drain_seconds`, ends the wait.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from xlmr.errors import SettingsError
from xlmr.serving.dataplane import Dataplane

logger = logging.getLogger("xlmr.serving.http")


class Server(uvicorn.Server):
    """uvicorn with an orderly end."""

    def __init__(
        self,
        app: ASGIApp,
        plane: Dataplane,
        *,
        drain_seconds: float,
        on_listening: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                http="httptools",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=max(1, round(drain_seconds)),
            )
        )
        self._plane = plane
        self._drain_seconds = drain_seconds
        self._on_listening = on_listening
        self._drained_by: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, then says so."""
        await super().startup(sockets)
        self._on_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends at once."""
        if self._drained_by is None:
            self.drain()
        else:
            self.should_exit = self.force_exit = True

    def drain(self) -> None:
        """Readiness falls; the server stops once nothing is in flight."""
        self._plane.drain()
        self._drained_by = time.monotonic() + self._drain_seconds

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: is there a reason to stop?"""
        if self._drained_by is not None:
            late = time.monotonic() > self._drained_by
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
            hint="another process may have the port; --port 0 takes a free one",
        ) from fault
    return bound


def address_of(bound: socket.socket) -> str:
    """`http://127.0.0.1:8080`."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
