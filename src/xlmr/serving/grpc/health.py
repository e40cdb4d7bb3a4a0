"""`grpc.health.v1.Health`: what load balancers and Kubernetes' gRPC probes ask.

The server, and each of its services, serves while requests should be sent here; so it falls with
the engine, and at the first moment of a shutdown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from xlmr.serving.dataplane import Dataplane
from xlmr.serving.grpc.messages import SERVICES, health

SERVICE = "grpc.health.v1.Health"
_UNKNOWN, _SERVING, _NOT_SERVING, _NO_SERVICE = range(4)
_KNOWN = frozenset(("", *SERVICES))
_LOOK_SECONDS = 0.5


class Health:
    """Tells one server's health. `close` ends those who watch, so that it can stop."""

    def __init__(self, plane: Dataplane) -> None:
        self._plane = plane
        self._closed = asyncio.Event()

    def handler(self) -> Any:
        """gRPC's handler for the service."""
        request, response = health.HealthCheckRequest, health.HealthCheckResponse
        read, write = request.FromString, response.SerializeToString
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self.check, read, write),
                "Watch": grpc.unary_stream_rpc_method_handler(self.watch, read, write),
            },
        )

    def close(self) -> None:
        """Those who watch are told the last status, and no more."""
        self._closed.set()

    async def check(self, message: Any, context: Any) -> Any:
        """The status now."""
        if message.service not in _KNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no service of that name")
        return health.HealthCheckResponse(status=self._status())

    async def watch(self, message: Any, context: Any) -> AsyncIterator[Any]:
        """The status now, and whenever it changes."""
        told = -1
        while True:
            status = self._status() if message.service in _KNOWN else _NO_SERVICE
            if status != told:
                told = status
                yield health.HealthCheckResponse(status=status)
            if self._closed.is_set():
                return
            try:
                await asyncio.wait_for(self._closed.wait(), _LOOK_SECONDS)
            except TimeoutError:
                continue

    def _status(self) -> int:
        return _SERVING if self._plane.ready else _NOT_SERVING
