from __future__ import annotations

import pytest

from xlmr.serving.admission import Limits
from xlmr.serving.dataplane import Dataplane
from xlmr.serving.http.endpoint import Call
from xlmr.serving.http.health import show_live, show_ready
from xlmr.serving.pool import Pool
from xlmr.settings import Settings
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
    pool = Pool(Settings(runtime="reference"), Metrics())
    plane = Dataplane(pool, limits=limits, metrics=Metrics(), log=None, identify=list)
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


def test_metrics_are_shown(house):
    house.classify(input="where is my parcel")
    reply = house.client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    assert "xlmr_requests_total{" in reply.text
    assert "process_resident_memory_bytes" in reply.text
