from __future__ import annotations

import pytest

from xlmr.serving.admission import Limits
from xlmr.serving.dataplane import Dataplane
from xlmr.serving.http.endpoint import Call
from xlmr.serving.http.health import show_live, show_ready
from xlmr.serving.pool import Pool
from xlmr.telemetry.metrics import Metrics

NOTHING = Call("r1", b"", {})


def test_a_server_with_models_is_live_and_ready(house):
    assert house.client.get("/livez").json() == {"live": True}
    ready = house.client.get("/readyz")
    assert (ready.status_code, ready.json()) == (
        200,
        {"ready": True, "models": ["router", "sentences"]},
    )


def test_no_models_is_not_ready():
    limits = Limits(max_items=1, max_chars=1)
    plane = Dataplane(Pool({}), limits=limits, metrics=Metrics(), log=None, identify=list)
    assert show_ready(plane, NOTHING).status == 503
    assert show_live(plane, NOTHING).status == 200
    plane.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_compute_thread_is_neither_live_nor_ready(house_of):
    with house_of("router") as house:
        house.gated.fault = KeyboardInterrupt()
        reply = house.classify(input="hello")
        assert reply.status_code == 500
        assert house.client.get("/livez").status_code == 503
        assert house.client.get("/readyz").status_code == 503
        assert house.classify(input="hello").status_code == 503


def test_metrics_are_exported_under_their_names(house):
    house.classify(input=["where is my parcel", "где посылка", "hello " * 600])
    house.classify(input=3)
    reply = house.client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    for name in (
        'xlmr_requests_total{code="ok",model="router",task="classify"}',
        'xlmr_requests_total{code="invalid_input",model="",task="classify"}',
        'xlmr_items_total{code="ok",language=',
        'xlmr_request_seconds_bucket{le="0.01",task="classify"}',
        'xlmr_stage_seconds_count{stage="tokenise"}',
        'xlmr_stage_seconds_count{stage="queue"}',
        'xlmr_stage_seconds_count{stage="infer"}',
        'xlmr_stage_seconds_count{stage="decode"}',
        "xlmr_batch_tokens_bucket",
        "xlmr_batch_texts_bucket",
        "xlmr_queue_tokens 0.0",
        'xlmr_truncated_items_total{model="router",task="classify"}',
        "xlmr_engine_faults_total",
        "process_resident_memory_bytes",
    ):
        assert name in reply.text
