"""The gRPC server beside the HTTP server, on the same event loop and the same data plane."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from xlmr.errors import SettingsError
from xlmr.serving.dataplane import Dataplane
from xlmr.serving.grpc import native, oip
from xlmr.serving.grpc.calls import service_handler
from xlmr.serving.grpc.health import Health
from xlmr.serving.grpc.messages import SERVICES

_GRACE_SECONDS = 1.0
# A silent peer is asked after so long, and given as much to answer.
_SILENCE_MS = 15_000


class GrpcDoor:
    """Listens from `open` on, until `close`. Both belong to the event loop of the data plane.

    Attributes:
        address: `127.0.0.1:9000`, once it listens.
    """

    def __init__(
        self,
        plane: Dataplane,
        *,
        host: str,
        port: int,
        max_body_bytes: int,
        credentials: Any = None,
    ) -> None:
        """Says where it will listen.

        Args:
            plane: who answers.
            host: the address.
            port: 0 takes a free one.
            max_body_bytes: largest message.
            credentials: gRPC's server credentials; None speaks without TLS.
        """
        self._plane = plane
        self._host = f"[{host}]" if ":" in host else host
        self._port = port
        self._max_body_bytes = max_body_bytes
        self._credentials = credentials
        self._server: Any = None
        self._health: Health | None = None
        self.address = ""

    async def open(self) -> None:
        """Listens.

        Raises:
            SettingsError: the address cannot be had.
        """
        options = (
            ("grpc.max_receive_message_length", self._max_body_bytes),
            ("grpc.max_send_message_length", -1),
            # Two servers that share a port without knowing it would each get half of the calls.
            ("grpc.so_reuseport", 0),
            # Else a client whose machine lost power would be kept for two hours.
            ("grpc.keepalive_time_ms", _SILENCE_MS),
            ("grpc.keepalive_timeout_ms", _SILENCE_MS),
            # Without it the answer to a ping is waited for a minute, whatever the line above says.
            ("grpc.http2.ping_timeout_ms", _SILENCE_MS),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
        )
        server = grpc.aio.server(options=options)
        self._health = Health(self._plane)
        server.add_generic_rpc_handlers(
            (
                service_handler(SERVICES[0], oip.CALLS, self._plane, door="oip_grpc"),
                service_handler(SERVICES[1], native.CALLS, self._plane, door="native_grpc"),
                self._health.handler(),
            )
        )
        place = f"{self._host}:{self._port}"
        try:
            if self._credentials is None:
                port = server.add_insecure_port(place)
            else:
                port = server.add_secure_port(place, self._credentials)
        except RuntimeError:
            raise SettingsError(
                f"cannot listen on {place} for gRPC",
                hint="another process may have the port; --grpc-port 0 takes a free one",
            ) from None
        await server.start()
        self._server = server
        self.address = f"{self._host}:{port}"

    async def close(self) -> None:
        """Takes no further calls and closes; what is still in flight is given a moment."""
        if self._server is None:
            return
        server, self._server = self._server, None
        if self._health is not None:
            self._health.close()
        await server.stop(_GRACE_SECONDS)
