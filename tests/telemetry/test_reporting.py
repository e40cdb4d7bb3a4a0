from __future__ import annotations

import pytest
from tests.collector import collecting

from xlmr.errors import SettingsError
from xlmr.settings import Settings
from xlmr.telemetry.reporting import open_reporting


def test_nobody_is_told_of_traces_unless_a_collector_is_named():
    reporting = open_reporting(Settings(), version="1")
    assert reporting.tracer is None
    reporting.close()


def test_a_collector_that_is_named_is_told():
    with collecting() as collector:
        settings = Settings(otlp_endpoint=collector.address, price_per_hour=3600.0)
        reporting = open_reporting(settings, version="7")
        tracer = reporting.tracer
        trace = tracer.begin()
        tracer.end(trace, name="tag", started=1.0, ended=2.0, stages=(), attributes={}, fault=False)
        reporting.close()
        reporting.close()
        assert [span.name for span in collector.spans] == ["tag"]
        assert collector.resource["service.version"] == "7"
    assert reporting.metrics.value("xlmr_trace_exported_spans_total") == 1
    with reporting.metrics.busy:
        pass
    assert reporting.metrics.value("xlmr_cost_money_total") > 0


def test_an_endpoint_that_is_none_ends_the_start():
    with pytest.raises(SettingsError, match="expected a URL"):
        open_reporting(Settings(otlp_endpoint="localhost"), version="1")
