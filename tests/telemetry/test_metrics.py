from __future__ import annotations

import pytest

from xlmr.telemetry.metrics import LANGUAGES, Metrics, bounded_language


def test_counts_arrive_under_their_labels():
    metrics = Metrics()
    for _ in range(2):
        metrics.request(task="classify", model="router", code="ok", seconds=0.003)
    metrics.item(task="classify", model="router", language="sw", code="ok")
    metrics.tokens(task="classify", model="router", computed=12, unknown=1, truncated=1)
    metrics.batch(tokens=12, texts=2, seconds=0.002)
    metrics.stage("queue", 0.001)
    metrics.engine_fault()
    where = {"task": "classify", "model": "router"}
    assert metrics.value("xlmr_requests_total", **where, code="ok") == 2
    assert metrics.value("xlmr_request_seconds_count", task="classify") == 2
    assert metrics.value("xlmr_items_total", **where, language="sw", code="ok") == 1
    assert metrics.value("xlmr_tokens_total", **where) == 12
    assert metrics.value("xlmr_unknown_tokens_total", **where) == 1
    assert metrics.value("xlmr_truncated_items_total", **where) == 1
    assert metrics.value("xlmr_batch_tokens_sum") == 12
    assert metrics.value("xlmr_stage_seconds_count", stage="infer") == 1
    assert metrics.value("xlmr_stage_seconds_count", stage="queue") == 1
    assert metrics.value("xlmr_engine_faults_total") == 1


def test_two_servers_do_not_share_counters():
    one, other = Metrics(), Metrics()
    one.engine_fault()
    assert other.value("xlmr_engine_faults_total") == 0


@pytest.mark.parametrize(("code", "label"), [("de", "de"), ("und", "und"), ("xx", "other")])
def test_languages_come_from_a_bounded_set(code, label):
    assert bounded_language(code) == label
    assert len(LANGUAGES) <= 110


def test_the_queue_is_asked_when_it_is_read():
    metrics = Metrics()
    waiting = [7]
    metrics.watch_queue(lambda: waiting[0])
    waiting[0] = 9
    assert metrics.value("xlmr_queue_tokens") == 9


def test_the_export_names_units_and_process_memory():
    text = Metrics().export().decode()
    assert "# TYPE xlmr_engine_faults_total counter" in text
    assert "process_resident_memory_bytes" in text
