"""Concurrency, overload, faults, hang-ups and the orderly end, over real sockets."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from xlmr.errors import ModelNotFoundError, SettingsError
from xlmr.model.bundle import Bundle
from xlmr.model.runtime import Runtime
from xlmr.serving.admission import Limits
from xlmr.serving.beside import in_thread
from xlmr.serving.dataplane import Dataplane
from xlmr.serving.engines import warm_runtime
from xlmr.serving.http.app import build_app
from xlmr.serving.http.server import Server, address_of, bind
from xlmr.serving.pool import Pool
from xlmr.serving.versions import read_places
from xlmr.settings import Settings
from xlmr.telemetry.metrics import Metrics
from xlmr.text.language import identify_many

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
        batcher = house.plane.pool.models["router"].batcher
        eventually(lambda: batcher.waiting_requests == 9)
        house.gated.gate.set()
        assert held.result(SECONDS).status_code == 200
        replies = [future.result(SECONDS) for future in asked]
        assert house.gated.texts == [1, 9]
        assert house.metrics.value("xlmr_batch_texts_sum") == 10
        assert house.metrics.value("xlmr_batch_texts_count") == 2
        alone = [house.classify(input=text).json()["items"][0]["labels"] for text in texts]
        assert [reply.json()["items"][0]["labels"] for reply in replies[:8]] == alone


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


class Start:
    """A server whose model is loaded once it listens, when `go` is set."""

    def __init__(self, directory: Path, settings: Settings, doors: Sequence[Any] = ()) -> None:
        self.go, self.started = threading.Event(), threading.Event()
        self.pool = Pool(settings, Metrics(), runtime_of=self.opened)
        self.plane = Dataplane(
            self.pool,
            limits=Limits(max_items=9, max_chars=99),
            metrics=Metrics(),
            log=None,
            identify=identify_many,
        )
        self.bound = bind("127.0.0.1", 0)
        listening = threading.Event()
        self.server = Server(
            build_app(self.plane, max_body_bytes=999),
            self.plane,
            drain_seconds=5,
            doors=doors,
            load=lambda: in_thread(lambda: self.pool.load_all(read_places([f"a@1={directory}"]))),
            on_listening=listening.set,
            on_started=self.started.set,
        )
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.bound]})
        self.thread.start()
        self.client = httpx.Client(base_url=address_of(self.bound), timeout=SECONDS)

    def opened(self, bundle: Bundle, settings: Settings) -> Runtime:
        assert self.go.wait(SECONDS)
        return warm_runtime(bundle, settings)

    def end(self) -> None:
        self.go.set()
        self.server.drain()
        self.thread.join(SECONDS)
        self.client.close()
        self.plane.close()
        self.pool.close()
        assert not self.thread.is_alive()


@pytest.fixture
def start_of(tmp_path):
    starts = []

    def make(directory: Path, **options: Any) -> Start:
        settings = Settings(runtime="reference", cache_dir=tmp_path)
        starts.append(Start(directory, settings, **options))
        return starts[-1]

    yield make
    for start in starts:
        start.end()


def test_while_it_loads_it_says_how_far_it_is(start_of, models):
    start = start_of(models / "router")
    eventually(lambda: start.pool.loading and start.pool.states()[0].stage == "preparing")
    for path, body in (
        ("/startupz", {"started": False, "reasons": ["a: preparing"]}),
        ("/readyz", {"ready": False, "models": [], "reasons": ["a: preparing"]}),
    ):
        reply = start.client.get(path)
        assert (reply.status_code, reply.json()) == (503, body)
    assert start.client.get("/livez").status_code == 200
    assert not start.started.is_set()
    start.go.set()
    assert start.started.wait(SECONDS)
    assert start.client.get("/startupz").json() == {"started": True}
    assert start.client.get("/readyz").json() == {"ready": True, "models": ["a"]}


def test_a_signal_while_it_loads_ends_it(start_of, models):
    start = start_of(models / "router")
    eventually(lambda: start.pool.loading)
    start.server.drain()
    start.thread.join(SECONDS)
    assert not start.thread.is_alive()
    assert start.server.fault is None
    assert not start.started.is_set()


def test_a_model_that_cannot_be_loaded_ends_it_with_the_reason(start_of, models):
    start = start_of(models / "nothing")
    start.thread.join(SECONDS)
    assert not start.thread.is_alive()
    assert isinstance(start.server.fault, ModelNotFoundError)
    assert not start.started.is_set()


class Noted:
    """A door that notes what happens to it."""

    def __init__(self, name: str, happened: list[str], fault: Exception | None = None) -> None:
        self.name, self.happened, self.fault = name, happened, fault

    async def open(self) -> None:
        self.happened.append(f"{self.name} opens")
        if self.fault is not None:
            raise self.fault

    async def close(self) -> None:
        self.happened.append(f"{self.name} closes")


def test_doors_open_after_http_and_close_after_it(start_of, models):
    happened: list[str] = []
    start = start_of(models / "router", doors=[Noted("a", happened), Noted("b", happened)])
    start.go.set()
    assert start.started.wait(SECONDS)
    assert happened == ["a opens", "b opens"]
    start.server.drain()
    start.thread.join(SECONDS)
    assert happened == ["a opens", "b opens", "a closes", "b closes"]


def test_a_door_that_cannot_open_ends_it_with_the_reason(start_of, models):
    happened: list[str] = []
    fault = SettingsError("taken")
    start = start_of(models / "router", doors=[Noted("a", happened, fault)])
    start.thread.join(SECONDS)
    assert start.server.fault is fault
    assert happened == ["a opens", "a closes"]
