"""A server with a gRPC door and a model for every call, and a client that knows the contracts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from tests.serving.conftest import House, running
from tests.tiny import tiny_model

from xlmr.serving.grpc.messages import POOL

KINDS = ("embed", "classify", "tag", "answer", "zero_shot", "fill", "rerank", "multi_label")


class Client:
    """`client("xlmr.v1.Xlmr", "Tag", request)`; keeps what came beside the last answer."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self.trailing: dict[str, str] = {}

    def method(self, service: str, name: str, *, stream: bool = False) -> Any:
        described = POOL.FindServiceByName(service).FindMethodByName(name)
        make = self.channel.unary_stream if stream else self.channel.unary_unary
        return make(
            f"/{service}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(described.output_type).FromString,
        )

    def __call__(self, service: str, name: str, message: Any, **options: Any) -> Any:
        options.setdefault("timeout", 20)
        reply, call = self.method(service, name).with_call(message, **options)
        self.trailing = dict(call.trailing_metadata())
        return reply


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Shared by tests of a module that leave it as they found it."""
    root = tmp_path_factory.mktemp("grpc")
    places = [str(tiny_model(root, kind, seed=5)) for kind in KINDS]
    cache: Path = tmp_path_factory.mktemp("grpc-cache")
    with running(places, cache_dir=cache, grpc_port=0, max_body_bytes=300_000) as house:
        yield house


@pytest.fixture
def client_of() -> Iterator[Any]:
    """Makes clients, and closes them."""
    made: list[Client] = []

    def make(house: House) -> Client:
        made.append(Client(house.grpc_address))
        return made[-1]

    yield make
    for client in made:
        client.channel.close()


@pytest.fixture(scope="module")
def client(served: House) -> Iterator[Client]:
    """Of the shared server."""
    client = Client(served.grpc_address)
    yield client
    client.channel.close()
