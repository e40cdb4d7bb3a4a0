"""The compiled descriptors are those of the contracts, and keep out of other packages' way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

import xlmr.serving.grpc as package
from xlmr.serving.grpc import native, oip
from xlmr.serving.grpc.messages import DESCRIPTORS, POOL, SERVICES

PROTO = Path(package.__file__).parent / "proto"


def test_the_descriptors_are_compiled_from_the_contracts(tmp_path):
    compiled = tmp_path / "compiled"
    sources = sorted(path.name for path in PROTO.glob("*.proto"))
    command = [sys.executable, "-W", "ignore", "-m", "grpc_tools.protoc", f"-I{PROTO}"]
    subprocess.run([*command, f"--descriptor_set_out={compiled}", *sources], check=True, cwd=PROTO)
    fresh, kept = (
        descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
        for path in (compiled, PROTO / DESCRIPTORS)
    )
    assert fresh == kept, "run `make protos`"


def test_every_method_has_its_call():
    for service, calls in ((SERVICES[0], oip.CALLS), (SERVICES[1], native.CALLS)):
        assert {method.name for method in POOL.FindServiceByName(service).methods} == set(calls)


def test_the_default_pool_stays_free():
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("xlmr.v1.EmbedRequest")
