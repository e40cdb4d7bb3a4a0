"""The gRPC doors: the Open Inference Protocol, the native calls, and the health protocol.

They translate and nothing more: each call becomes a question to the same data plane that the HTTP
doors ask, and its answer a message. `proto/` holds the contracts; clients in any language are
generated from them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xlmr.errors import MissingExtraError

if TYPE_CHECKING:
    from xlmr.serving.dataplane import Dataplane
    from xlmr.serving.grpc.door import GrpcDoor


def require_grpc() -> None:
    """Refuses to go on without what the doors are made of.

    Raises:
        MissingExtraError: grpcio or protobuf is not installed.
    """
    for module, package in (("grpc", "grpcio"), ("google.protobuf", "protobuf")):
        try:
            import_module(module)
        except ModuleNotFoundError:
            raise MissingExtraError(package, extra="grpc") from None


def grpc_door(
    plane: Dataplane, *, host: str, port: int, max_body_bytes: int, credentials: Any = None
) -> GrpcDoor:
    """A door that is not open yet; its arguments are `GrpcDoor`'s.

    Raises:
        MissingExtraError: as `require_grpc`.
    """
    require_grpc()
    from xlmr.serving.grpc.door import GrpcDoor

    return GrpcDoor(
        plane, host=host, port=port, max_body_bytes=max_body_bytes, credentials=credentials
    )
