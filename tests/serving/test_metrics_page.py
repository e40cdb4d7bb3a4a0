"""`/metrics` of a running server, after traffic of every kind."""

from __future__ import annotations

import json
import shutil
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.tiny import tiny_model, write_linear_head

from xlmr.drift.keeping import HOUR_S, Counted, DriftStore
from xlmr.drift.reference import REFERENCE_FILE, freeze, write_reference
from xlmr.drift.signals import Sight, Signals
from xlmr.model.bundle import open_bundle
from xlmr.registry.rollout.assignment import Weighted
from xlmr.telemetry.table import TABLE

# Half of what the head says is not sure enough for this.
CALIBRATION = {
    "format": 1,
    "abstention": {
        "*": {
            "threshold": 0.5,
            "risk": 0.1,
            "confidence": 0.9,
            "bound": 0.1,
            "coverage": 0.5,
            "rows": 100,
        },
    },
}


@pytest.fixture(scope="module")
def cautious(tmp_path_factory):
    """A router that abstains, and a tagger."""
    root = tmp_path_factory.mktemp("cautious")
    shutil.move(tiny_model(root, "embed"), root / "router")
    write_linear_head(root / "router", ("refund", "delivery", "other"))
    (root / "router" / "calibration.json").write_text(json.dumps(CALIBRATION))
    tiny_model(root, "tag", seed=1)
    return root


@pytest.fixture
def drifted(cautious, tmp_path):
    """A drift store; in an hour that is over the router was asked what it was not released for."""
    usual = [("de", Sight(6, 20, 0, False, "refund", 0.9, 0.3, False), True) for _ in range(500)]
    reference = freeze(usual, task="classify", labels=("delivery", "other", "refund"))
    write_reference(reference, cautious / "router")
    version = open_bundle(cautious / "router").digest[:12]
    signals = Signals(version, "classify", reference.labels)
    for _ in range(500):
        signals.see("de", Sight(6, 20, 0, False, "other", 0.3, 1.0, True))
    now_s, place = time.time(), str(tmp_path / "drift.db")
    store = DriftStore(place)
    store.add("another", 1, [Counted("router", int(now_s) // HOUR_S - 3, signals)], now_s=now_s)
    store.close()
    yield place
    (cautious / "router" / REFERENCE_FILE).unlink()


def page(house):
    text = house.client.get("/metrics").text
    return {family.name: family for family in text_string_to_metric_families(text)}


def samples(families, name):
    return [
        sample for family in families.values() for sample in family.samples if sample.name == name
    ]


def test_every_metric_is_exported_after_mixed_traffic(house_of, cautious, drifted):
    places = (str(cautious / "router"), str(cautious / "tag"))
    knobs = {"max_body_bytes": 10_000, "drift": drifted}
    with house_of(*places, price_per_hour=2.0, **knobs) as house:
        version = house.plane.pool.models["router"].ref.version
        house.plane.routes.set("router", Weighted({version: 1.0}, "salt"))
        house.classify(input=["hello world", "где посылка и где мои деньги", "h" * 4000])
        house.classify(input=["hello world"], model="nobody")
        house.embed(input=["query: hello"], model="router")
        house.client.post("/v1/tag", json={"input": ["anna lives in paris"]})
        house.client.post(
            "/v1/classify", content=b"{", headers={"content-type": "application/json"}
        )
        house.client.post("/v1/classify", json={"input": "x" * 20_000})
        house.observing.watching.turn()
        families = page(house)
    for metric in TABLE:
        if metric.gpu:
            assert metric.name not in families
            continue
        family = families[metric.name]
        assert family.samples, metric.name
        assert family.documentation == metric.help
        assert family.type == metric.kind
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), metric.name
    codes = {sample.labels["code"] for sample in samples(families, "xlmr_requests_total")}
    assert {"ok", "model_not_found", "invalid_json", "body_too_large"} <= codes
    languages = {sample.labels["language"] for sample in samples(families, "xlmr_items_total")}
    assert "ru" in languages


def test_what_is_counted_is_what_happened(house_of, cautious):
    with house_of(str(cautious / "router"), price_per_hour=2.0) as house:
        reply = house.classify(input=["hello world", "где посылка и где мои деньги"]).json()
        where = {"task": "classify", "model": "router"}
        value = house.metrics.value
        version = house.plane.pool.models["router"].ref.version
        assert value("xlmr_requests_total", **where, version=version, door="native", code="ok") == 1
        assert value("xlmr_request_seconds_count", **where) == 1
        assert value("xlmr_tokens_total", **where) == reply["usage"]["tokens"]
        top = [item["labels"][0]["score"] for item in reply["items"]]
        assert value("xlmr_confidence_ratio_sum", **where) == pytest.approx(sum(top))
        assert value("xlmr_entropy_nats_count", **where, language="ru") == 1
        abstained = sum(item["abstained"] for item in reply["items"])
        assert value("xlmr_abstained_items_total", **where) == abstained
        for stage in ("read", "tokenise", "queue", "infer", "decode"):
            assert value("xlmr_stage_seconds_count", stage=stage) == 1, stage
        assert value("xlmr_model_state", model="router", version=version, state="ready") == 1
        assert value("xlmr_resident_memory_bytes", process="server") > 1e6
        assert value("xlmr_engine_threads") == 1
        busy = value("xlmr_engine_busy_seconds_total")
        assert value("xlmr_cost_money_total") == pytest.approx(busy * 2 / 3600)
        assert value("xlmr_cost_money_per_1k_tokens") > 0


def test_the_queue_shows_who_waits(house_of):
    with house_of("router", "sentences") as house:
        house.gated.gate.clear()
        threads = [house.later("/v1/classify", input="hello world")]
        assert house.gated.entered.acquire(timeout=10)
        threads += [house.later("/v1/classify", input="hello world") for _ in range(2)]
        house.until(lambda: house.metrics.value("xlmr_queue_requests") == 2)
        assert house.metrics.value("xlmr_queue_tokens") > 0
        assert house.metrics.value("xlmr_queue_oldest_seconds") > 0
        house.gated.gate.set()
        for thread in threads:
            thread.join(20)
        assert house.metrics.value("xlmr_queue_requests") == 0
        assert house.metrics.value("xlmr_queue_oldest_seconds") == 0


def test_refusals_are_counted_by_what_was_short(house_of):
    with house_of("router", queue_tokens=8) as house:
        house.gated.gate.clear()
        threads = [house.later("/v1/classify", input="hello world")]
        assert house.gated.entered.acquire(timeout=10)
        threads.append(house.later("/v1/classify", input="hello world"))
        house.until(lambda: house.metrics.value("xlmr_queue_requests") == 1)
        assert house.classify(input="hello world where is my").status_code == 503
        assert house.metrics.value("xlmr_sheds_total", reason="queue_full") == 1
        house.gated.gate.set()
        for thread in threads:
            thread.join(20)
        house.plane.drain()
        assert house.classify(input="hello").status_code == 503
        assert house.metrics.value("xlmr_sheds_total", reason="draining") == 1
