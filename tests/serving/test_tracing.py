"""Traces of a running server, as a collector gets them."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from tests.collector import collecting

from xlmr.telemetry.otlp import OtlpExporter
from xlmr.telemetry.traces import Tracer

ID, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{ID}-{PARENT}-01"}
UNSAMPLED = {"traceparent": f"00-{ID}-{PARENT}-00"}
STAGES = ["read", "tokenise", "queue", "infer", "decode"]


@pytest.fixture
def traced(house_of):
    """A server that traces, its collector and its tracer."""

    @contextlib.contextmanager
    def serve(*, ratio=1.0, **options):
        with collecting() as collector:
            dropped = []
            exporter = OtlpExporter(collector.address, version="1", timeout_s=1)
            tracer = Tracer(
                exporter,
                ratio=ratio,
                on_drop=lambda spans, reason: dropped.append((spans, reason)),
                **options,
            )
            with house_of("router", "sentences", tracer=tracer) as house:
                yield house, collector, tracer, dropped
            tracer.close()

    return serve


def ask(house, headers=None, **body):
    body = {"input": ["hello world", "where is my parcel"], "model": "router"} | body
    return house.client.post("/v1/classify", json=body, headers=headers or {})


def values(span):
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}


def test_a_request_goes_on_in_its_callers_trace(traced):
    with traced(ratio=0.0) as (house, collector, tracer, _):
        reply = ask(house, SAMPLED | {"x-request-id": "r-1"})
        tracer.flush()
        (record,) = house.log.records
    assert [span.name for span in collector.spans] == ["classify", *STAGES]
    request, *stages = collector.spans
    assert {span.trace_id.hex() for span in collector.spans} == {ID}
    assert request.parent_span_id.hex() == PARENT
    assert {stage.parent_span_id for stage in stages} == {request.span_id}
    assert reply.headers["traceresponse"] == f"00-{ID}-{request.span_id.hex()}-01"
    assert record.trace == ID
    known = values(request)
    assert known["xlmr.request"] == "r-1"
    assert (known["xlmr.code"], known["xlmr.items"], known["xlmr.model"]) == ("ok", 2, "router")
    assert known["xlmr.tokens"] == reply.json()["usage"]["tokens"]


def test_stages_lie_in_the_request_one_after_the_other(traced):
    with traced() as (house, collector, tracer, _):
        ask(house)
        tracer.flush()
    request, *stages = collector.spans
    moments = [m for s in stages for m in (s.start_time_unix_nano, s.end_time_unix_nano)]
    # The engine times its part from when it got the work, the server from when that was given.
    moments = [request.start_time_unix_nano, *moments, request.end_time_unix_nano]
    assert all(b - a > -1_000_000 for a, b in itertools.pairwise(moments))


def test_the_caller_decides_and_else_the_ratio(traced):
    with traced(ratio=0.0) as (house, collector, tracer, _):
        for headers in (UNSAMPLED, {}, {"traceparent": "nonsense"}):
            assert "traceresponse" not in ask(house, headers).headers
        tracer.flush()
        assert not collector.bodies
        assert [record.trace for record in house.log.records] == [ID, "", ""]


def test_what_is_refused_is_a_span_too(traced):
    with traced() as (house, collector, tracer, _):
        refused = house.client.post("/v1/classify", content=b"{", headers=SAMPLED)
        unknown = ask(house, SAMPLED, model="nobody")
        house.gated.fault = RuntimeError("broken")
        failed = ask(house, SAMPLED)
        house.gated.fault = None
        tracer.flush()
    assert all("traceresponse" in reply.headers for reply in (refused, unknown, failed))
    requests = [span for span in collector.spans if span.parent_span_id.hex() == PARENT]
    codes = [values(span)["xlmr.code"] for span in requests]
    assert codes == ["unsupported_media_type", "model_not_found", "engine_error"]
    errors = [span.status.code == span.status.STATUS_CODE_ERROR for span in requests]
    assert errors == [False, False, True]


def test_what_fails_shows_how_far_it_got(traced):
    with traced() as (house, collector, tracer, _):
        house.gated.fault = RuntimeError("broken")
        ask(house)
        tracer.flush()
    assert [span.name for span in collector.spans] == ["classify", "read", "tokenise"]


def test_a_collector_that_stands_still_or_is_away_costs_spans_alone(traced):
    with traced(most_waiting=2) as (house, collector, tracer, dropped):
        collector.gate.clear()
        assert ask(house).status_code == 200
        tracer._outbox._hurry.set()
        house.until(lambda: not tracer._outbox._waiting)
        for _ in range(5):
            assert ask(house).status_code == 200
        assert dropped[:3] == [(6, "queue_full")] * 3
        collector.status = 400
        collector.gate.set()
        tracer.flush()
        assert (12, "collector") in dropped
        collector.status = 200
        ask(house)
        tracer.flush()
        assert collector.spans


def test_without_a_tracer_nothing_is_made_of_a_trace(house_of):
    with house_of("router", "sentences") as house:
        reply = ask(house, SAMPLED)
        assert "traceresponse" not in reply.headers
        assert house.log.records[-1].trace == ""
        assert house.plane.trace(SAMPLED["traceparent"]) is None
