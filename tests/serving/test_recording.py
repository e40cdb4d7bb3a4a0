"""What is told of requests, the odd ones too: every one leaves a line and a count."""

from __future__ import annotations

import asyncio
import dataclasses
import socket

import pytest

from xlmr.serving.http.endpoint import Endpoint
from xlmr.serving.http.request import Request
from xlmr.serving.http.verbs import OPERATIONS
from xlmr.serving.recording import CLIENT_GONE


def test_a_record_says_all_but_the_text(house_of):
    with house_of("router", "sentences") as house:
        reply = house.classify(
            input=["hello world", "где посылка и где мои деньги"], model="router"
        )
        (record,) = house.log.records
        served = house.plane.pool.models["router"].ref
    assert record.request == reply.headers["x-request-id"]
    assert (record.task, record.model, record.version) == ("classify", "router", served.version)
    assert (record.door, record.caller, record.code) == ("native", "anonymous", "ok")
    assert record.items == 2
    assert record.lengths == (11, 28)
    assert len(set(record.fingerprints)) == 2
    assert "ru" in record.languages
    assert record.tokens == reply.json()["usage"]["tokens"]
    stages = ("read_ms", "tokenise_ms", "queue_ms", "infer_ms", "decode_ms")
    parts = [getattr(record, name) for name in stages]
    assert all(part >= 0 for part in parts)
    assert 0 < sum(parts) <= record.ms + 1.0


def test_of_a_large_request_the_first_texts_are_told(house_of):
    with house_of("router", "sentences") as house:
        house.classify(input=["hello"] * 100, model="router")
        (record,) = house.log.records
    assert (record.items, len(record.lengths), len(set(record.fingerprints))) == (100, 8, 1)


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"{", {"content-type": "application/json"}, "invalid_json"),
        (b"{}", {"content-type": "application/json"}, "invalid_input"),
        (b"{}", {"content-type": "text/plain"}, "unsupported_media_type"),
        (b"{}", {"x-request-priority": "soon"}, "invalid_header"),
    ],
)
def test_what_never_became_a_question_is_told_as_well(house_of, body, headers, code):
    with house_of("router") as house:
        reply = house.client.post("/v1/classify", content=body, headers=headers)
        (record,) = house.log.records
        assert reply.status_code >= 400
        assert (record.code, record.door, record.model) == (code, "native", "")
        assert record.request == reply.headers["x-request-id"]
        assert record.ms > 0
        counted = {"task": "classify", "door": "native", "code": code}
        assert house.metrics.value("xlmr_requests_total", **counted) == 1


def test_a_client_that_hangs_up_before_its_body_is_whole_is_told(house_of):
    with house_of("router") as house:
        host, port = house.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as line:
            line.sendall(
                b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b'content-length: 100\r\n\r\n{"input": '
            )
        house.until(lambda: bool(house.log.records))
        assert house.log.records[0].code == CLIENT_GONE
        assert house.metrics.value("xlmr_requests_total", code=CLIENT_GONE) == 1


def test_a_fault_of_ours_before_the_question_is_told(house_of):
    (classify,) = (o for o in OPERATIONS if o.path == "/v1/classify")

    def broken(call):
        raise LookupError("ours")

    request = Request("POST", classify.path, [(b"content-type", b"application/json")])
    request.feed(b"{}")
    request.end()
    with house_of("router") as house:
        operation = dataclasses.replace(classify, ask=broken)
        endpoint = Endpoint(operation, house.plane, max_body_bytes=100)
        reply = asyncio.run(endpoint(request))
        assert reply.status == 500
        assert [record.code for record in house.log.records] == ["internal"]
