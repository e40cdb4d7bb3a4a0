"""Mistakes that servers of this kind make when there is too much to do, and about who may ask.

Work that is done first and then refused, refusals that are no refusals, batches that fail whole, a
dead model thread that leaves requests hanging; keys compared letter by letter, or one for all.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest
from tests.serving.conftest import House, running
from tests.serving.conftest import models as models

from xlmr.serving.keys import new_key, write_entries

SECONDS = 30
# A text of so many tokens fits no batch beside another of its kind.
LONG = "hello " * 400


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def house_of(models, tmp_path):
    """A server that computes every text, however often it is asked."""
    return lambda *names, **knobs: running(
        [str(models / name) for name in names], cache_dir=tmp_path, cache_bytes=0, **knobs
    )


@pytest.fixture(scope="module")
def house(models, tmp_path_factory):
    """Shared by tests that leave it as they found it."""
    with running([str(models / "router")], cache_dir=tmp_path_factory.mktemp("cache")) as house:
        yield house


@pytest.fixture
def threads():
    with ThreadPoolExecutor(16) as threads:
        yield threads


def hold(house: House, threads: ThreadPoolExecutor) -> Future[httpx.Response]:
    """Has one request enter the engine and stay there."""
    house.gated.gate.clear()
    held = threads.submit(house.classify, input="hello", model="router")
    assert house.gated.entered.acquire(timeout=SECONDS)
    return held


def classify(house: House, text: object, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return house.client.post("/v1/classify", json={"input": text}, headers=named)


def waiting(house: House) -> int:
    return house.plane.pool.models["router"].batcher.waiting_requests


def refused_once_it_is_late(house: House, path: str, text: object) -> httpx.Response:
    """The first refusal; the longer the engine is held, the less it is believed to be fast."""
    deadline = time.monotonic() + SECONDS
    while True:
        reply = house.client.post(
            path, json={"input": text}, headers={"x-request-deadline-ms": "20"}
        )
        if reply.status_code == 429:
            return reply
        assert reply.status_code == 503
        assert time.monotonic() < deadline


def test_trap_10_what_would_come_too_late_is_refused_before_any_work(house_of, threads):
    with house_of("router") as house:
        held = hold(house, threads)
        shapes = {
            "/v1/classify": lambda body: body["code"],
            "/v1/embeddings": lambda body: body["error"]["code"],
        }
        for path, code in shapes.items():
            refusal = refused_once_it_is_late(house, path, "hello")
            assert code(refusal.json()) == "overloaded"
            assert int(refusal.headers["retry-after"]) >= 1
        assert house.gated.texts == [1]
        assert house.metrics.value("xlmr_sheds_total", reason="deadline") >= 2
        house.gated.gate.set()
        assert held.result(SECONDS).status_code == 200
        eventually(lambda: classify(house, "hi", x_request_deadline_ms="5000").status_code == 200)


def test_trap_10_a_batch_of_32_is_taken_or_refused_as_one(house_of, threads):
    with house_of("router") as house:
        held = hold(house, threads)
        texts = [f"hello {number}" for number in range(32)]
        refusal = refused_once_it_is_late(house, "/v1/classify", texts)
        assert "items" not in refusal.json()
        assert waiting(house) == 0
        house.gated.gate.set()
        assert held.result(SECONDS).status_code == 200
        assert house.gated.texts == [1]
        taken = classify(house, texts, x_request_deadline_ms="20000")
        assert taken.status_code == 200
        assert all("labels" in item for item in taken.json()["items"])
        assert sum(house.gated.texts) == 33


def test_trap_10_a_full_queue_refuses_with_a_time_to_return(house_of, threads):
    with house_of("router", queue_tokens=600) as house:
        held = hold(house, threads)
        queued = threads.submit(classify, house, LONG)
        eventually(lambda: waiting(house) == 1)
        refusal = classify(house, LONG)
        assert (refusal.status_code, refusal.json()["code"]) == (503, "unavailable")
        assert int(refusal.headers["retry-after"]) >= 1
        house.gated.gate.set()
        assert held.result(SECONDS).status_code == queued.result(SECONDS).status_code == 200
        assert house.gated.texts == [1, 1]


@pytest.mark.parametrize("knobs", [{}, {"default_deadline_ms": 300}])
def test_what_waited_beyond_its_deadline_is_not_computed(house_of, threads, knobs):
    headers = {} if knobs else {"x_request_deadline_ms": "300"}
    with house_of("router", **knobs) as house:
        house.gated.gate.clear()
        held = threads.submit(classify, house, "hello", x_request_deadline_ms="20000")
        assert house.gated.entered.acquire(timeout=SECONDS)
        late = threads.submit(classify, house, "hello world", **headers)
        eventually(lambda: waiting(house) == 1)
        time.sleep(0.35)
        house.gated.gate.set()
        assert held.result(SECONDS).status_code == 200
        refusal = late.result(SECONDS)
        assert (refusal.status_code, refusal.json()["code"]) == (503, "deadline_exceeded")
        assert house.gated.texts == [1]


def test_urgent_requests_go_first(house_of, threads):
    with house_of("router", age_bound_ms=60_000) as house:
        held = hold(house, threads)
        asked = []
        for number, priority in enumerate(("low", "normal", "high"), 1):
            asked.append(
                threads.submit(
                    classify, house, LONG, x_request_priority=priority, x_request_id=priority
                )
            )
            eventually(lambda number=number: waiting(house) == number)
        house.gated.gate.set()
        for one in (held, *asked):
            assert one.result(SECONDS).status_code == 200
        assert [record.request for record in house.log.records][1:] == ["high", "normal", "low"]


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"x-request-deadline-ms": "soon"}, "x-request-deadline-ms"),
        ({"x-request-deadline-ms": "-1"}, "x-request-deadline-ms"),
        ({"x-request-deadline-ms": "9" * 400}, "x-request-deadline-ms"),
        ({"x-request-priority": "urgent"}, "x-request-priority"),
    ],
)
def test_a_header_that_says_nothing_is_the_callers_fault(house, headers, name):
    reply = house.client.post("/v1/classify", json={"input": "hello"}, headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (400, "invalid_header")
    assert reply.json()["path"] == name


@pytest.mark.parametrize("given", ["order-77.a_B", "x" * 64])
def test_a_sane_request_id_is_kept(house, given):
    assert classify(house, "hello", x_request_id=given).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\tb", '"', "{}"])
def test_any_other_is_replaced(house, given):
    kept = classify(house, "hello", x_request_id=given).headers["x-request-id"]
    assert len(kept) == 16
    assert kept != given


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_trap_4_when_the_model_thread_dies_everybody_is_told_at_once(house_of, threads):
    with house_of("router") as house:
        held = hold(house, threads)
        queued = [threads.submit(classify, house, LONG) for _ in range(6)]
        eventually(lambda: waiting(house) == 6)
        house.gated.fault = SystemExit()
        house.gated.gate.set()
        for one in (held, *queued):
            reply = one.result(SECONDS)
            assert (reply.status_code, reply.json()["code"]) == (500, "engine_error")
        for path in ("/livez", "/readyz"):
            assert house.client.get(path).status_code == 503
        after = classify(house, "hello")
        assert (after.status_code, after.json()["code"]) == (503, "unavailable")
        assert int(after.headers["retry-after"]) >= 1
        assert house.plane.idle


def test_trap_5_without_a_model_nothing_is_ready_and_nothing_hangs(house_of):
    with house_of("router") as house:
        ref = house.plane.pool.models["router"].ref
        house.plane.pool.unload("router", ref.version)
        ready = house.client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["reasons"]
        assert house.client.get("/livez").status_code == 200
        reply = classify(house, "hello")
        assert reply.status_code in (400, 404)
        assert reply.json()["code"] in ("task_not_supported", "model_not_found")


@pytest.fixture
def guarded(house_of, tmp_path):
    """A server that knows three callers; gives it, their keys, and what changes the file."""
    path = tmp_path / "keys.jsonl"
    made = {
        "shop": new_key("shop", roles=("predict",)),
        "labels": new_key("labels", roles=("feedback",)),
        "chief": new_key("chief", roles=("predict", "feedback", "operate")),
    }

    def keep(*names: str) -> None:
        fresh = tmp_path / "fresh"
        fresh.write_bytes(write_entries([made[name][1] for name in names]))
        fresh.replace(path)

    keep(*made)
    with house_of("router", keys_file=str(path), metrics_role="operate") as house:
        yield house, {name: key for name, (key, _) in made.items()}, keep


def test_trap_16_without_a_key_or_with_a_wrong_one_nobody_is_let_in(guarded):
    house, keys, _ = guarded
    last = keys["shop"][-1]
    wrong = keys["shop"][:-1] + ("A" if last != "A" else "B")
    for headers in (
        {},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {wrong}"},
        {"authorization": f"Basic {keys['shop']}"},
        {"x-api-key": keys["shop"][:-1]},
        {"x-api-key": "é" * 100},
    ):
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        reply = house.client.post("/v1/classify", json={"input": "hello"}, headers=encoded)
        assert (reply.status_code, reply.json()["code"]) == (401, "unauthenticated")
        assert reply.headers["www-authenticate"].startswith("Bearer")
    assert house.gated.texts == []


def test_trap_16_who_may_not_ask_is_refused_before_the_body_is_read(guarded):
    house, _, _ = guarded
    host, port = house.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=SECONDS) as stranger:
        stranger.sendall(
            b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 100000\r\n\r\n"
        )
        assert stranger.recv(4096).startswith(b"HTTP/1.1 401")


def test_trap_16_each_key_opens_what_its_roles_say(guarded):
    house, keys, _ = guarded
    assert classify(house, "hello", authorization=f"Bearer {keys['shop']}").status_code == 200
    assert classify(house, "hello", authorization=f"bearer {keys['shop']}").status_code == 200
    assert classify(house, "hello", x_api_key=keys["chief"]).status_code == 200
    refusal = classify(house, "hello", x_api_key=keys["labels"])
    assert (refusal.status_code, refusal.json()["code"]) == (403, "forbidden")
    for name, status in (("shop", 403), ("chief", 200)):
        reply = house.client.get("/metrics", headers={"x-api-key": keys[name]})
        assert reply.status_code == status
    assert house.client.get("/metrics").status_code == 401
    for path in ("/livez", "/readyz", "/startupz", "/docs", "/openapi.json"):
        assert house.client.get(path).status_code == 200


def test_trap_16_keys_come_and_go_while_it_serves_and_are_told_to_nobody(guarded, capfd):
    house, keys, keep = guarded
    assert classify(house, "hello", x_api_key=keys["shop"]).status_code == 200
    keep("chief")
    eventually(lambda: classify(house, "hello", x_api_key=keys["shop"]).status_code == 401)
    shown = house.client.get("/metrics", headers={"x-api-key": keys["chief"]})
    assert shown.status_code == 200
    said = "".join(map(str, house.log.records)) + shown.text + "".join(capfd.readouterr())
    for key in keys.values():
        assert key.split("_", 2)[2] not in said
    assert {record.caller for record in house.log.records} <= {"shop", "chief", "", "anonymous"}
