from __future__ import annotations

import pytest

from xlmr.errors import DataError
from xlmr.levels.glance import glance
from xlmr.levels.reading import Reading, Span
from xlmr.telemetry.metrics import Item, Metrics


def page(metrics, *, began="1.0"):
    text = metrics.export().decode()
    lines = [ln for ln in text.splitlines() if not ln.startswith("process_start_time_seconds")]
    return "\n".join([*lines, f"process_start_time_seconds {began}"]) + "\n"


def serve(metrics, *seconds, model="router", code="ok"):
    for each in seconds:
        metrics.request(task="classify", model=model, version="1", code=code, seconds=each)


def test_between_two_readings_is_what_was_added():
    metrics = Metrics()
    serve(metrics, 0.9, 0.9, code="engine_error")
    before = Reading(page(metrics), at=100.0)
    serve(metrics, 0.01, 0.01, 0.01, 0.15)
    span = Span(Reading(page(metrics), at=104.0), before)
    shown = glance(span)
    assert shown["requests"] == {
        "total": 4,
        "per_second": 1.0,
        "failed": 0,
        "codes": {"engine_error": 0, "ok": 4},
    }
    assert 5 < shown["latency_ms"]["p50"] <= 10
    assert 100 < shown["latency_ms"]["p95"] <= 200


def test_after_a_restart_nothing_is_compared():
    metrics = Metrics()
    serve(metrics, *[0.01] * 9)
    before = Reading(page(metrics), at=100.0)
    fresh = Metrics()
    serve(fresh, 0.01)
    span = Span(Reading(page(fresh, began="2.0"), at=102.0), before)
    assert span.total("xlmr_requests_total") == 1
    assert span.seconds is None
    assert glance(span)["requests"]["per_second"] is None


def test_a_version_that_came_back_counts_from_nothing():
    metrics = Metrics()
    serve(metrics, *[0.01] * 9)
    before = Reading(page(metrics), at=100.0)
    metrics.forget("router", "1")
    serve(metrics, 0.01, 0.01)
    span = Span(Reading(page(metrics), at=102.0), before)
    assert span.total("xlmr_requests_total") == 2


def test_percentiles_are_as_prometheus_says_them():
    metrics = Metrics()
    serve(metrics, *[0.15] * 50, *[0.3] * 50)
    span = Span(Reading(page(metrics), at=1.0))
    assert span.quantile("xlmr_request_seconds", 0.25) == pytest.approx(0.15)
    assert span.quantile("xlmr_request_seconds", 0.5) == pytest.approx(0.2)
    assert span.quantile("xlmr_request_seconds", 0.75) == pytest.approx(0.35)
    serve(metrics, *[1000.0] * 900)
    span = Span(Reading(page(metrics), at=1.0))
    assert span.quantile("xlmr_request_seconds", 0.99) == 10.0
    assert span.quantile("xlmr_batch_seconds", 0.5) is None


def test_languages_come_with_the_most_frequent_first():
    metrics = Metrics()
    where = {"task": "classify", "model": "router", "version": "1"}
    for language, confidence in (("sw", 0.5), ("de", 0.9), ("de", 0.7)):
        item = Item(language, "ok", confidence=confidence, abstained=confidence < 0.6)
        metrics.items([item], **where)
    rows = glance(Span(Reading(page(metrics), at=1.0)))["languages"]
    assert [row["language"] for row in rows] == ["de", "sw"]
    assert rows[0]["confidence"] == pytest.approx(0.8)
    assert (rows[0]["abstained"], rows[1]["abstained"]) == (0.0, 1.0)


@pytest.mark.parametrize("text", ["", "<html>", "go_goroutines 3\n", 'a{b="c} 1\n'])
def test_what_is_no_page_of_ours_is_refused(text):
    with pytest.raises(DataError, match="no page of metrics"):
        Reading(text, at=0.0)
