"""Concurrency, overload, faults, hang-ups and the orderly end, over real sockets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from xlmr.errors import SettingsError
from xlmr.serving.http.server import address_of, bind

SECONDS = 20


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def threads():
    with ThreadPoolExecutor(16) as threads:
        yield threads


def hold(house, threads):
    """Has one request enter the engine and stay there."""
    house.gated.gate.clear()
    held = threads.submit(house.classify, input="hello", model="router")
    assert house.gated.entered.acquire(timeout=SECONDS)
    return held


def test_concurrent_requests_are_computed_together(house_of, threads):
    with house_of("router", "sentences") as house:
        held = hold(house, threads)
        texts = [f"hello {number}" for number in range(8)]
        asked = [threads.submit(house.classify, input=text) for text in texts]
        asked.append(threads.submit(house.embed, input="world"))
        eventually(lambda: house.plane._in_flight == 10 and house.plane.pool.waiting_tokens > 40)
        eventually(lambda: house.metrics.value("xlmr_stage_seconds_count", stage="tokenise") == 10)
        house.gated.gate.set()
        assert held.result(SECONDS).status_code == 200
        replies = [future.result(SECONDS) for future in asked]
        assert house.gated.texts == [1, 9]
        assert house.metrics.value("xlmr_batch_texts_sum") == 10
        assert house.metrics.value("xlmr_batch_texts_count") == 2
        alone = [house.classify(input=text).json()["items"] for text in texts]
        assert [reply.json()["items"] for reply in replies[:8]] == alone


def test_overload_is_refused_at_once_with_a_time_to_return(house_of, threads):
    with house_of("router", queue_tokens=80) as house:
        held = hold(house, threads)
        waiting = threads.submit(house.classify, input="hello " * 50)
        eventually(lambda: house.plane.pool.waiting_tokens > 50)
        before = len(house.gated.texts)
        for path, extract in (
            ("/v1/classify", lambda body: body["code"]),
            ("/v1/embeddings", lambda body: body["error"]["code"]),
        ):
            refusal = house.client.post(path, json={"input": "hello " * 50})
            assert refusal.status_code == 503
            assert int(refusal.headers["retry-after"]) >= 1
            assert extract(refusal.json()) == "unavailable"
        assert len(house.gated.texts) == before
        house.gated.gate.set()
        assert held.result(SECONDS).status_code == waiting.result(SECONDS).status_code == 200
        never = house.classify(input=["hello " * 50] * 2)
        assert never.status_code == 422
        assert never.json()["path"] == "$.input"


def test_an_engine_fault_is_a_500_and_the_server_goes_on(house_of):
    with house_of("router") as house:
        house.gated.fault = RuntimeError("hello private")
        reply = house.classify(input="hello private")
        assert reply.status_code == 500
        assert reply.json()["code"] == "engine_error"
        assert "private" not in reply.text
        house.gated.fault = None
        assert house.classify(input="hello").status_code == 200
        assert house.metrics.value("xlmr_engine_faults_total") == 1
        assert house.log.records[0].code == "engine_error"


def test_a_client_that_hangs_up_leaves_the_queue(house_of, threads):
    with house_of("router") as house:
        held = hold(house, threads)
        host, port = house.address.removeprefix("http://").split(":")
        body = json.dumps({"input": "hello " * 30}).encode()
        with socket.create_connection((host, int(port))) as gone:
            gone.sendall(
                b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%s" % (len(body), body)
            )
            eventually(lambda: house.plane.pool.waiting_tokens > 30)
        eventually(lambda: house.plane.pool.waiting_tokens == 0)
        eventually(lambda: len(house.log.records) == 1)
        assert house.log.records[0].code == "client_gone"
        house.gated.gate.set()
        assert held.result(SECONDS).status_code == 200
        assert house.gated.texts == [1]
        assert house.plane.idle


def test_a_client_that_hangs_up_in_its_body_is_forgotten(house_of):
    with house_of("router") as house:
        host, port = house.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as gone:
            gone.sendall(
                b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b"content-length: 1000\r\n\r\n{"
            )
        assert house.classify(input="hello").status_code == 200
        eventually(lambda: len(house.server.server_state.connections) == 1)


def test_draining_lets_readiness_fall_answers_what_is_in_flight_then_closes(house_of, threads):
    with house_of("router") as house:
        held = hold(house, threads)
        queued = threads.submit(house.classify, input="world")
        eventually(lambda: house.plane.pool.waiting_tokens > 0)
        house.server.drain()
        assert house.client.get("/readyz").status_code == 503
        # The server looks ten times a second whether it may close; it must not yet.
        time.sleep(0.4)
        assert httpx.get(f"{house.address}/readyz").status_code == 503
        assert httpx.get(f"{house.address}/livez").status_code == 200
        refusal = house.classify(input="too late")
        assert refusal.status_code == 503
        assert "retry-after" in refusal.headers
        assert house.thread.is_alive()
        house.gated.gate.set()
        assert held.result(SECONDS).status_code == queued.result(SECONDS).status_code == 200
        house.thread.join(SECONDS)
        assert not house.thread.is_alive()
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{house.address}/livez")


def test_a_request_whose_body_is_still_coming_is_not_cut_off_by_the_drain(house_of):
    with house_of("router") as house:
        host, port = house.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=SECONDS) as slow:
            slow.sendall(
                b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b"content-length: 18\r\n\r\n"
            )
            eventually(lambda: len(house.server.server_state.tasks) == 1)
            house.server.drain()
            slow.sendall(b'{"input": "hello"}')
            assert slow.recv(4096).startswith(b"HTTP/1.1 503")


def test_draining_ends_although_a_request_does_not(house_of, threads):
    with house_of("router", drain_seconds=1) as house:
        held = hold(house, threads)
        house.server.drain()
        house.thread.join(SECONDS)
        assert not house.thread.is_alive()
        house.gated.gate.set()
        assert held.result(SECONDS).status_code == 503


def test_a_taken_port_is_one_clear_error():
    first = bind("127.0.0.1", 0)
    first.listen()
    port = first.getsockname()[1]
    with first, pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{port}"):
        bind("127.0.0.1", port)


def test_an_ipv6_address_is_written_as_a_url_wants_it():
    with bind("::1", 0) as bound:
        assert address_of(bound) == f"http://[::1]:{bound.getsockname()[1]}"
