"""A gRPC call is in its caller's trace as an HTTP request is."""

from __future__ import annotations

import pytest
from tests.collector import collecting
from tests.serving.conftest import running
from tests.tiny import tiny_model

from xlmr.serving.grpc.messages import POOL
from xlmr.telemetry.otlp import OtlpExporter
from xlmr.telemetry.traces import Tracer

grpc = pytest.importorskip("grpc")
from google.protobuf.message_factory import GetMessageClass  # noqa: E402

ID, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_call_goes_on_in_its_callers_trace(tmp_path, client_of):
    place = str(tiny_model(tmp_path, "tag"))
    with collecting() as collector:
        tracer = Tracer(OtlpExporter(collector.address, version="1"), ratio=0.0)
        with running([place], tracer=tracer, cache_dir=tmp_path, grpc_port=0) as house:
            client = client_of(house)
            message = GetMessageClass(POOL.FindMessageTypeByName("xlmr.v1.TagRequest"))
            known = (("traceparent", f"00-{ID}-{PARENT}-01"),)
            client("xlmr.v1.Xlmr", "Tag", message(texts=["anna lives"]), metadata=known)
            (record,) = house.log.records
        tracer.close()
    request, *stages = collector.spans
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (ID, PARENT)
    assert [stage.name for stage in stages] == ["read", "tokenise", "queue", "infer", "decode"]
    assert client.trailing["traceresponse"] == f"00-{ID}-{request.span_id.hex()}-01"
    assert (record.trace, record.door) == (ID, "native_grpc")
