"""The wall clock may jump, by hours and backwards: no promise to a request hangs on it."""

from __future__ import annotations

import itertools
import time

import pytest

SOON = {"x-request-deadline-ms": "50"}


@pytest.fixture
def jumping(monkeypatch):
    """A wall clock that is somewhere else each time it is read."""
    now = time.time()
    jumps = itertools.cycle([0.0, 86_400.0, -86_400.0, 3.2e7, -3.2e7])
    monkeypatch.setattr(time, "time", lambda: now + next(jumps))
    monkeypatch.setattr(time, "time_ns", lambda: int((now + next(jumps)) * 1e9))


def test_requests_are_answered_and_timed_as_ever(house_of, jumping):
    with house_of("router", "sentences") as house:
        for number in range(20):
            # A deadline that a jump of the clock would either miss or never reach.
            headers = {"x-request-deadline-ms": "15000", "x-request-id": f"r{number}"}
            body = {"input": "hello world", "model": "router"}
            reply = house.client.post("/v1/classify", json=body, headers=headers)
            assert reply.status_code == 200
            assert 0 <= int(reply.headers["x-total-time"]) < 15_000
        assert all(0 < record.ms < 15_000 for record in house.log.records)
        for stage in ("read", "tokenise", "queue", "infer", "decode"):
            assert house.metrics.value("xlmr_stage_seconds_count", stage=stage) == 20
            assert 0 <= house.metrics.value("xlmr_stage_seconds_sum", stage=stage) < 300
        assert 0 <= house.metrics.value("xlmr_request_seconds_sum") < 300
        assert 0 < house.metrics.value("xlmr_engine_busy_seconds_total") < 300
        assert house.client.get("/livez").status_code == 200
        assert house.client.get("/readyz").status_code == 200


def test_a_deadline_that_has_come_is_seen(house_of, jumping):
    with house_of("router") as house:
        house.gated.gate.clear()
        first = house.later("/v1/classify", input="hello")
        assert house.gated.entered.acquire(timeout=10)
        reply = house.client.post("/v1/classify", json={"input": "hello"}, headers=SOON)
        # Refused at once, or when its time was over: by then the engine still stands still.
        assert reply.json()["code"] in ("overloaded", "deadline_exceeded")
        house.gated.gate.set()
        first.join(20)
        assert house.log.records[-1].code == "ok"
