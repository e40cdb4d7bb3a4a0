from __future__ import annotations

import contextlib
import random
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from xlmr.telemetry.cost import Busy
from xlmr.telemetry.metrics import Item, Metrics, bounded_language
from xlmr.telemetry.table import LANGUAGES, STAGES, TABLE

WHERE = {"task": "classify", "model": "router", "version": "1"}
# Words a name must hold, where the unit is not the word itself.
IN_NAMES = {"state": "state"}


def test_counts_arrive_under_their_labels():
    metrics = Metrics()
    for stages in ([("queue", 0.001), ("infer", 0.002)], []):
        metrics.request(**WHERE, door="openai", code="ok", seconds=0.003, stages=stages)
    item = Item("sw", "ok", confidence=0.8, entropy=0.4, abstained=True)
    metrics.items([item], **WHERE, computed=12, unknown=1, truncated=1)
    metrics.batch(tokens=12, texts=2, seconds=0.002)
    metrics.engine_fault()
    assert metrics.value("xlmr_requests_total", **WHERE, door="openai", code="ok") == 2
    assert metrics.value("xlmr_request_seconds_count", **WHERE) == 2
    assert metrics.value("xlmr_items_total", **WHERE, language="sw", code="ok") == 1
    assert metrics.value("xlmr_confidence_ratio_sum", **WHERE, language="sw") == 0.8
    assert metrics.value("xlmr_entropy_nats_sum", **WHERE, language="sw") == 0.4
    assert metrics.value("xlmr_abstained_items_total", **WHERE, language="sw") == 1
    assert metrics.value("xlmr_tokens_total", **WHERE) == 12
    assert metrics.value("xlmr_unknown_tokens_total", **WHERE) == 1
    assert metrics.value("xlmr_truncated_items_total", **WHERE) == 1
    assert metrics.value("xlmr_batch_tokens_sum") == 12
    assert metrics.value("xlmr_batch_texts_sum") == 2
    assert metrics.value("xlmr_batch_seconds_count") == 1
    assert metrics.value("xlmr_stage_seconds_count", stage="queue") == 1
    assert metrics.value("xlmr_engine_faults_total") == 1


def test_what_is_not_known_of_an_answer_is_not_counted():
    metrics = Metrics()
    metrics.items([Item("de", "ok")], **WHERE)
    metrics.request(**WHERE, code="invalid_json", seconds=None)
    assert metrics.value("xlmr_items_total") == metrics.value("xlmr_requests_total") == 1
    text = metrics.export().decode()
    for name in ("confidence_ratio", "entropy_nats", "abstained_items", "request_seconds"):
        assert not re.search(rf"^xlmr_{name}\w*\{{", text, re.MULTILINE), name


def test_a_value_is_summed_over_the_labels_that_are_not_given():
    metrics = Metrics()
    metrics.request(task="classify", model="a", code="ok", seconds=0.1)
    metrics.request(task="embed", model="a", code="ok", seconds=0.1)
    assert metrics.value("xlmr_requests_total", model="a") == 2
    assert metrics.value("xlmr_requests_total", model="b") == 0


def test_two_servers_do_not_share_counters():
    one, other = Metrics(), Metrics()
    one.engine_fault()
    assert other.value("xlmr_engine_faults_total") == 0


@pytest.mark.parametrize(("code", "label"), [("de", "de"), ("und", "und"), ("xx", "other")])
def test_languages_come_from_a_bounded_set(code, label):
    assert bounded_language(code) == label
    assert len(LANGUAGES) <= 110


def series_of(metrics: Metrics) -> int:
    return sum(
        len(family.samples) for family in text_string_to_metric_families(metrics.export().decode())
    )


def test_no_stranger_can_make_series_without_end():
    metrics = Metrics()
    draw = random.Random(0)

    def strange() -> str:
        return f"{draw.getrandbits(64):x}"

    sizes = []
    for _ in range(3):
        for _ in range(400):
            where = {"task": strange(), "model": strange(), "version": strange()}
            language, code = strange()[:3], strange()
            metrics.request(**where, door=strange(), code=code, seconds=0.1)
            item = Item(language, code, confidence=0.5, entropy=0.1, abstained=False)
            metrics.items([item], **where, computed=1, unknown=1, truncated=1)
        sizes.append(series_of(metrics))
    assert sizes[0] == sizes[1] == sizes[2]
    assert metrics.value("xlmr_requests_total") == 1200
    assert metrics.value("xlmr_requests_total", model="other", version="other") > 1000


def test_a_version_that_is_unloaded_takes_its_series_with_it():
    metrics = Metrics()
    for version in map(str, range(1000)):
        where = WHERE | {"version": version}
        metrics.request(**where, code="ok", seconds=0.1)
        metrics.items([Item("de", "ok", confidence=0.5)], **where)
        assert metrics.value("xlmr_requests_total", **where) == 1
        metrics.forget("router", version)
        assert metrics.value("xlmr_requests_total", **where) == 0
    assert 'version="' not in metrics.export().decode()
    metrics.request(**WHERE, code="ok", seconds=0.1)
    assert metrics.value("xlmr_requests_total", **WHERE) == 1


def test_gauges_ask_when_they_are_read():
    metrics = Metrics()
    waiting = [7]
    metrics.watch_queue(
        lambda: waiting[0], requests=lambda: 2 * waiting[0], oldest_seconds=lambda: 0.5
    )
    metrics.watch_models(lambda: [("router", "1", "ready"), ("router", "2", "loading")])
    metrics.watch_engine_threads(lambda: 2)
    metrics.watch_memory(lambda: {"server": 5e8, "worker-0": 1e9})
    waiting[0] = 9
    assert metrics.value("xlmr_queue_tokens") == 9
    assert metrics.value("xlmr_queue_requests") == 18
    assert metrics.value("xlmr_queue_oldest_seconds") == 0.5
    assert metrics.value("xlmr_model_state", version="2", state="loading") == 1
    assert metrics.value("xlmr_engine_threads") == 2
    assert metrics.value("xlmr_resident_memory_bytes", process="worker-0") == 1e9


def test_the_table_says_everything_once_with_its_unit_in_the_name():
    names = [metric.name for metric in TABLE]
    assert len(set(names)) == len(names)
    for metric in TABLE:
        assert metric.name.startswith("xlmr_")
        assert metric.help.endswith(".")
        word = IN_NAMES.get(metric.unit, metric.unit)
        assert word in metric.name.split("_"), metric.name
        assert (metric.kind == "histogram") == bool(metric.buckets)
        assert not metric.known or len(metric.labels) == 1


def test_what_needs_no_label_is_exported_from_the_start():
    families = {
        family.name: family
        for family in text_string_to_metric_families(Metrics().export().decode())
    }
    for metric in TABLE:
        if metric.gpu:
            assert metric.name not in families
        elif not metric.labels or metric.known:
            assert families[metric.name].samples, metric.name
            assert families[metric.name].documentation == metric.help
    stages = {sample.labels.get("stage") for sample in families["xlmr_stage_seconds"].samples}
    assert stages == set(STAGES)
    assert "process_resident_memory_bytes" in families


def test_nothing_is_padded():
    metrics = Metrics()
    metrics.batch(tokens=700, texts=2, seconds=0.1)
    assert metrics.value("xlmr_padding_waste_ratio") == 0
    assert "nothing is padded" in metrics.export().decode()


def test_cost_is_busy_time_at_the_price():
    now = [100.0]
    metrics = Metrics(price_per_hour=3.6, clock=lambda: now[0])
    with metrics.busy:
        now[0] += 5.0
        assert metrics.value("xlmr_cost_money_total") == pytest.approx(0.005)
        now[0] += 5.0
    metrics.batch(tokens=4000, texts=10, seconds=10.0)
    now[0] += 100.0
    assert metrics.value("xlmr_engine_busy_seconds_total") == 10
    assert metrics.value("xlmr_cost_money_total") == pytest.approx(0.01)
    assert metrics.value("xlmr_cost_money_per_1k_tokens") == pytest.approx(0.0025)


def test_two_engines_at_once_cost_one_machine():
    now = [0.0]
    busy = Busy(lambda: now[0])
    with busy:
        now[0] = 2.0
        with busy:
            now[0] = 3.0
        now[0] = 4.0
    with contextlib.suppress(ValueError), busy:
        now[0] = 5.0
        raise ValueError("the engine failed")
    now[0] = 9.0
    assert busy.seconds() == 5.0


def test_without_a_price_nothing_costs():
    metrics = Metrics()
    with metrics.busy:
        metrics.batch(tokens=5, texts=1, seconds=0.1)
    assert metrics.value("xlmr_cost_money_total") == 0
    assert metrics.value("xlmr_cost_money_per_1k_tokens") == 0
