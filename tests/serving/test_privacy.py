"""No user's text in a log, a metric or an error's words, even at debug and on the bad paths."""

from __future__ import annotations

import io
import json
import logging

import pytest

from xlmr.telemetry.logs import JsonRequestLog, configure_logging

MARK = "Marzipanschwein"


@pytest.fixture
def written(house, monkeypatch, capfd):
    """Everything that is logged at debug level."""
    requests, rest = io.BytesIO(), io.BytesIO()
    log = JsonRequestLog("debug", requests)
    monkeypatch.setattr(house.plane.recorder, "_log", log)
    undo = configure_logging("debug", rest)

    def read():
        log.flush()
        logging.getLogger().handlers[0].flush()
        said = requests.getvalue() + rest.getvalue()
        return said.decode() + "".join(capfd.readouterr())

    yield read
    undo()
    log.close()


def test_texts_reach_no_log_and_no_metric(house, written):
    bodies = [
        json.dumps({"input": [MARK, f"hello {MARK}"], "model": "router"}),
        json.dumps({"input": MARK, "model": MARK}),
        json.dumps({"input": [MARK, 3]}),
        json.dumps({"input": MARK, MARK: 1}),
        json.dumps({"input": MARK, "long": MARK}),
        json.dumps({"input": MARK + " hello" * 600, "long": "error"}),
        json.dumps({"input": MARK * 100_000}),
        json.dumps({"input": [f"{MARK} \ud800"], "model": "router"}),
        '{"input": "' + MARK,
        MARK,
    ]
    headers = {"content-type": "application/json", "x-request-id": f"{MARK} and more"}
    statuses = [
        house.client.post(path, content=body, headers=headers).status_code
        for path in ("/v1/classify", "/v1/embeddings")
        for body in bodies
    ]
    house.gated.fault = RuntimeError(MARK)
    statuses.append(house.classify(input=MARK).status_code)
    house.gated.fault = None
    house.client.get(f"/{MARK}?q={MARK}")
    assert {200, 400, 404, 422, 500} <= set(statuses)
    logged = written()
    lines = [json.loads(line) for line in logged.splitlines()]
    assert sum(line["event"] == "request" for line in lines) == len(statuses)
    assert any(line.get("exception") == "RuntimeError" for line in lines)
    assert all("fingerprints" in line for line in lines if line.get("code") == "ok")
    for marked in (MARK, MARK.lower(), json.dumps(MARK)[1:-1]):
        assert marked not in logged
        assert marked not in house.client.get("/metrics").text


def test_an_unforeseen_fault_is_a_500_without_words(house, written, monkeypatch):
    def broken(*_: object) -> None:
        raise LookupError(MARK)

    monkeypatch.setattr(house.plane._computing, "_identify", broken)
    reply = house.classify(input=MARK)
    assert reply.status_code == 500
    assert reply.json()["code"] == "internal"
    assert MARK not in reply.text
    logged = written()
    assert "LookupError" in logged
    assert MARK not in logged
