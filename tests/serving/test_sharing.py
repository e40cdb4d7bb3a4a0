"""A server with its cache, its quotas and a real Redis behind them, asked over HTTP."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services import RedisServer, redis_server

from xlmr.errors import MissingExtraError, SettingsError
from xlmr.serving.sharing import open_sharing
from xlmr.settings import Settings
from xlmr.telemetry.metrics import Metrics

PATIENCE_S = 20
TEXTS = [f"where is parcel {number}" for number in range(32)]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


def plain(body: dict[str, Any]) -> list[Any]:
    return [{k: v for k, v in item.items() if k != "id"} for item in body["items"]]


def test_of_32_texts_of_which_20_are_known_12_are_computed(house_of):
    with house_of("router", cache_bytes=10**6) as house:
        twenty = house.classify(input=TEXTS[:20]).json()
        house.gated.texts.clear()
        all_of_them = house.classify(input=TEXTS).json()
        assert sum(house.gated.texts) == 12
        assert plain(all_of_them)[:20] == plain(twenty)
        again = house.classify(input=TEXTS).json()
        assert sum(house.gated.texts) == 12
        assert plain(again) == plain(all_of_them)
        assert len({item["id"] for said in (all_of_them, again) for item in said["items"]}) == 64
        # What is told is the same; what is counted as work is what was worked.
        assert again["usage"] == all_of_them["usage"]
        computed = house.metrics.value("xlmr_tokens_total")
        assert computed == all_of_them["usage"]["tokens"]
        assert house.metrics.value("xlmr_cache_hits_total") == 20 + 32
        assert house.metrics.value("xlmr_cache_misses_total") == 32


def test_a_bad_text_among_known_ones_is_told_at_its_own_place(house_of):
    with house_of("router", cache_bytes=10**6) as house:
        house.classify(input=["hello", "world"])
        # A lone surrogate can only be sent as an escape.
        bad = '"\\ud800"'
        items = said(house, f'["hello", {bad}, "new", {bad}, "world"]').json()["items"]
        assert ["error" in item for item in items] == [False, True, False, True, False]
        assert [items[i]["error"]["path"] for i in (1, 3)] == ["$.input[1]", "$.input[3]"]
        assert said(house, f'["hello", {bad}]').status_code == 200
        assert not said(house, f"[{bad}, {bad}]").is_success


def said(house: Any, texts: str) -> Any:
    return house.client.post(
        "/v1/classify",
        content='{"input": ' + texts + "}",
        headers={"content-type": "application/json"},
    )


def test_texts_asked_by_many_at_once_are_computed_once_also_where_the_first_hangs_up(house_of):
    with house_of("router", cache_bytes=10**6) as house:
        house.gated.gate.clear()
        host, port = house.address.removeprefix("http://").split(":")
        body = b'{"input": "hello"}'
        head = (
            f"POST /v1/classify HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        first = socket.create_connection((host, int(port)))
        first.sendall(head.encode() + body)
        assert house.gated.entered.acquire(timeout=PATIENCE_S)
        with concurrent.futures.ThreadPoolExecutor(5) as threads:
            asking = [threads.submit(house.classify, input="hello") for _ in range(5)]
            house.until(lambda: house.plane._in_flight == 6)
            first.close()
            house.until(lambda: house.plane._in_flight == 5)
            house.gated.gate.set()
            replies = [one.result(PATIENCE_S) for one in asking]
        assert {reply.status_code for reply in replies} == {200}
        assert len({str(plain(reply.json())) for reply in replies}) == 1
        # Once for the one who hung up, once for all others.
        assert sum(house.gated.texts) == 2
        assert house.metrics.value("xlmr_cache_joins_total") == 4


def test_servers_share_answers_through_redis(house_of, redis):
    # Patient: single calls may be late on a busy machine.
    knobs = {"cache_bytes": 10**6, "redis_url": redis.url, "redis_timeout_ms": 1000 * PATIENCE_S}
    with house_of("router", **knobs) as one, house_of("router", **knobs) as two:
        one.classify(input="first of all")
        one.until(lambda: redis_found(one))
        first = one.classify(input=TEXTS).json()
        one.until(lambda: int(redis.ask("DBSIZE")[1:-2]) >= 32)
        two.classify(input="first of all")
        two.until(lambda: redis_found(two))
        two.gated.texts.clear()
        assert plain(two.classify(input=TEXTS).json()) == plain(first)
        assert sum(two.gated.texts) == 0
        assert two.metrics.value("xlmr_cache_hits_total", where="redis") == 32
        assert plain(two.classify(input=TEXTS).json()) == plain(first)
        assert two.metrics.value("xlmr_cache_hits_total", where="memory") == 32


def redis_found(house: Any) -> bool:
    return bool(house.plane._cache._shared._link.there)


def test_redis_may_stop_die_and_come_back_and_no_request_notices(house_of, redis):
    with house_of("router", cache_bytes=3000, redis_url=redis.url) as house:
        expected = {text: plain(house.classify(input=text).json()) for text in TEXTS}
        stop, wrong = threading.Event(), []
        asked = [0]

        def ask() -> None:
            while not stop.is_set():
                for text in TEXTS:
                    reply = house.classify(input=text)
                    if reply.status_code != 200 or plain(reply.json()) != expected[text]:
                        wrong.append(reply.text)
                    asked[0] += 1

        def some() -> None:
            """Lets some requests pass."""
            goal = asked[0] + 40
            house.until(lambda: asked[0] >= goal)

        with concurrent.futures.ThreadPoolExecutor(3) as threads:
            asking = [threads.submit(ask) for _ in range(3)]
            try:
                some()
                for end in (redis.freeze, redis.thaw, redis.kill, redis.start):
                    end()
                    some()
            finally:
                stop.set()
            for one in asking:
                one.result(PATIENCE_S)
        assert not wrong
        house.until(lambda: house.classify(input="x").is_success and redis_found(house))


def test_a_quota_is_refused_with_the_time_to_come_back(house_of):
    with house_of("router", quota_tokens_per_s=0.5, quota_token_burst=60) as house:
        assert house.classify(input="hello world").status_code == 200
        reply = house.classify(input=["where is my parcel"] * 8)
        assert reply.status_code == 429
        assert reply.json()["code"] == "quota_exceeded"
        assert 1 <= int(reply.headers["retry-after"]) <= 120
        assert house.classify(input="hello").status_code == 200
        never = house.classify(input=["where is my parcel"] * 20)
        assert never.status_code in (400, 413, 422)
        assert "60 at once" in never.text
        assert house.metrics.value("xlmr_quota_refusals_total", quota="tokens") == 1


def test_tokenising_costs_a_request_and_no_tokens(house_of):
    knobs = {"quota_requests_per_s": 1e-6, "quota_request_burst": 4, "quota_tokens_per_s": 1e-6}
    with house_of("router", quota_token_burst=1, **knobs) as house:
        texts = {"input": ["where is my parcel"] * 8}
        assert house.client.post("/v1/tokenize", json=texts).status_code == 200
        assert house.client.post("/tokenize", json={"inputs": "hello"}).status_code == 200
        assert house.client.post("/v1/detokenize", json={"input": [0, 5, 2]}).status_code == 200
        # One that cannot be used is given back.
        assert house.client.post("/v1/detokenize", json={"input": [10**6]}).status_code == 422
        assert house.client.post("/decode", json={"ids": [0, 5, 2]}).status_code == 200
        refused = house.client.post("/v1/tokenize", json=texts)
        assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
        assert int(refused.headers["retry-after"]) >= 1
        assert house.metrics.value("xlmr_quota_refusals_total", quota="requests") == 1


def test_what_was_refused_for_another_reason_was_not_used(house_of):
    knobs = {"quota_requests_per_s": 1e-6, "quota_request_burst": 2, "queue_tokens": 600}
    with house_of("router", **knobs) as house:
        too_much = house.classify(input=["hello " * 100] * 9)
        assert not too_much.is_success
        assert too_much.status_code != 429
        house.gated.fault = RuntimeError("broken")
        assert house.classify(input="hello").status_code == 500
        house.gated.fault = None
        assert [house.classify(input="hello").status_code for _ in range(3)] == [200, 200, 429]


def test_known_answers_cost_their_request_and_no_tokens(house_of):
    knobs = {"quota_tokens_per_s": 1e-6, "quota_token_burst": 11, "cache_bytes": 10**6}
    with house_of("router", **knobs) as house:
        for _ in range(5):
            assert house.classify(input="hello world").status_code == 200
        assert house.classify(input="where is my parcel").status_code == 429
        assert house.classify(input="hello world").status_code == 200


def test_by_default_there_is_a_cache_and_no_quota():
    sharing = open_sharing(Settings(), Metrics())
    assert sharing.cache is not None
    assert sharing.cache._store.limit == 64 * 1024 * 1024
    assert not sharing.quotas._default
    assert open_sharing(Settings(cache_bytes=0), Metrics()).cache is None
    asyncio.run(sharing.close())


def test_a_cache_that_is_off_is_off_with_redis_too():
    async def run() -> None:
        settings = Settings(cache_bytes=0, redis_url="redis://127.0.0.1:1/0")
        sharing = open_sharing(settings, Metrics())
        assert sharing.cache is None
        await sharing.close()

    asyncio.run(run())


def test_what_is_secret_is_not_shown():
    settings = Settings(redis_url="redis://:swordfish@host/0", cache_secret="swordfish")
    assert "swordfish" not in repr(settings)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "redis.asyncio", None)
    with pytest.raises(MissingExtraError, match=r"xlmr\[redis\]"):
        open_sharing(Settings(redis_url="redis://127.0.0.1:1/0"), Metrics())


def test_a_wrong_url_is_refused_at_the_start():
    with pytest.raises(SettingsError, match="XLMR_REDIS_URL"):
        open_sharing(Settings(redis_url="localhost"), Metrics())


def test_a_store_smaller_than_an_answer_holds_nothing_and_harms_nobody(house_of):
    with house_of("router", cache_bytes=100) as house:
        for _ in range(2):
            assert house.classify(input="hello").status_code == 200
        assert house.metrics.value("xlmr_cache_misses_total") == 2
