"""The messages of `proto/*.proto`, from their compiled descriptors.

They live in a pool of their own. protobuf's default pool holds one message of a name for the whole
process, and clients of the same public protocols (Triton's, KServe's) put theirs there: a server
beside such a client would not start.
"""

from __future__ import annotations

from importlib import resources
from types import SimpleNamespace
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

DESCRIPTORS = "descriptors.binpb"
SERVICES = ("inference.GRPCInferenceService", "xlmr.v1.Xlmr", "grpc.health.v1.Health")


def _read() -> tuple[Any, dict[str, SimpleNamespace]]:
    """The pool, and the messages of each package by their short names."""
    data = resources.files("xlmr.serving.grpc").joinpath("proto", DESCRIPTORS).read_bytes()
    files = descriptor_pb2.FileDescriptorSet.FromString(data)
    pool = descriptor_pool.DescriptorPool()
    packages: dict[str, SimpleNamespace] = {}
    for file in files.file:
        pool.Add(file)
        package = packages.setdefault(file.package, SimpleNamespace())
        for message in file.message_type:
            described = pool.FindMessageTypeByName(f"{file.package}.{message.name}")
            setattr(package, message.name, message_factory.GetMessageClass(described))
    return pool, packages


POOL, _packages = _read()
inference: Any = _packages["inference"]
native: Any = _packages["xlmr.v1"]
health: Any = _packages["grpc.health.v1"]
