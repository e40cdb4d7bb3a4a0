from __future__ import annotations

import sys
import threading
import time

import pytest
from tests.collector import collecting

from xlmr.errors import MissingExtraError, SettingsError
from xlmr.telemetry.otlp import OtlpExporter
from xlmr.telemetry.traces import Finished, Stage, Trace

ID, SPAN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"


def finished(*, parent: str = PARENT, fault: bool = False) -> Finished:
    return Finished(
        trace=Trace(ID, SPAN, parent, True),
        name="classify",
        started=10.0,
        ended=13.0,
        stages=[Stage("queue", 10.5, 11.0), Stage("infer", 11.0, 12.5)],
        attributes={"xlmr.code": "ok", "xlmr.items": 2},
        fault=fault,
        epoch_s=1_000_000.0,
    )


@pytest.fixture
def collector():
    with collecting() as collector:
        yield collector


@pytest.fixture
def exporter_of():
    made = []

    def make(endpoint, **options):
        made.append(OtlpExporter(endpoint, version="1.2", **options))
        return made[-1]

    yield make
    for exporter in made:
        exporter.close()
        exporter.close()


def test_a_request_is_a_span_with_its_stages_below(collector, exporter_of):
    assert exporter_of(collector.address).export([finished()])
    request, queue, infer = collector.spans
    assert [span.name for span in collector.spans] == ["classify", "queue", "infer"]
    assert {span.trace_id.hex() for span in collector.spans} == {ID}
    assert (request.span_id.hex(), request.parent_span_id.hex()) == (SPAN, PARENT)
    assert queue.parent_span_id == infer.parent_span_id == request.span_id
    assert len({request.span_id, queue.span_id, infer.span_id}) == 3
    assert request.kind == request.SPAN_KIND_SERVER
    assert infer.kind == infer.SPAN_KIND_INTERNAL
    assert request.start_time_unix_nano == 1_000_010 * 10**9
    assert request.end_time_unix_nano == 1_000_013 * 10**9
    assert infer.start_time_unix_nano == 1_000_011 * 10**9
    values = {pair.key: pair.value for pair in request.attributes}
    assert values["xlmr.code"].string_value == "ok"
    assert values["xlmr.items"].int_value == 2
    assert request.status.code == request.status.STATUS_CODE_UNSET
    assert collector.paths == ["/v1/traces"]
    assert collector.resource["service.name"] == "xlmr"
    assert collector.resource["service.version"] == "1.2"


def test_where_a_trace_begins_here_there_is_no_parent(collector, exporter_of):
    exporter_of(collector.address).export([finished(parent="", fault=True)])
    request = collector.spans[0]
    assert request.parent_span_id == b""
    assert request.status.code == request.status.STATUS_CODE_ERROR
    assert request.status.message == ""


def test_a_path_of_ones_own_is_kept(collector, exporter_of):
    exporter_of(f"{collector.address}/traces/here").export([finished()])
    assert collector.paths == ["/traces/here"]


def test_the_environment_may_name_the_service(collector, exporter_of, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "router")
    exporter_of(collector.address).export([finished()])
    assert collector.resource["service.name"] == "router"


def test_a_collector_that_is_away_or_refuses_takes_nothing(collector, exporter_of):
    collector.status = 400
    assert not exporter_of(collector.address).export([finished()])
    assert not exporter_of("http://127.0.0.1:9", timeout_s=0.2).export([finished()])


def test_closing_ends_an_export_that_waits(collector, exporter_of):
    collector.status = 503
    exporter = exporter_of(collector.address, timeout_s=600)
    said = []
    thread = threading.Thread(target=lambda: said.append(exporter.export([finished()])))
    thread.start()
    time.sleep(0.1)
    exporter.close()
    thread.join(60)
    assert said == [False]


@pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://localhost", "http://", "nowhere"])
def test_what_is_no_url_is_refused(endpoint):
    with pytest.raises(SettingsError, match="expected a URL"):
        OtlpExporter(endpoint, version="1")


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingExtraError) as caught:
        OtlpExporter("http://localhost:4318", version="1")
    assert caught.value.hint == "pip install 'xlmr[otel]'"
