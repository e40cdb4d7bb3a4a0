"""Buckets shared through a real Redis: several servers together give no more than one would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.services import RedisServer, redis_server

from xlmr.errors import QuotaError
from xlmr.serving.quota import Buckets, Quotas, Refill, Refusal
from xlmr.serving.quota_redis import RedisBuckets
from xlmr.serving.redis_link import RedisLink
from xlmr.telemetry.metrics import Metrics
from xlmr.types import Caller, Quota

PATIENCE_S = 20
# Slow enough that nothing flows in while a test runs.
SLOW = {"requests": Refill(1e-6, 50.0), "tokens": Refill(1e-6, 1000.0)}
SLOW_QUOTA = Quota(requests_per_s=1e-6, request_burst=50.0, tokens_per_s=1e-6, token_burst=1000.0)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


class Server:
    """What one server has of Redis."""

    def __init__(self, url: str) -> None:
        self.metrics = Metrics()
        self.link = RedisLink(url, timeout_s=PATIENCE_S)
        self.shared = RedisBuckets(self.link, metrics=self.metrics)
        self.quotas = Quotas(metrics=self.metrics, default=SLOW_QUOTA, shared=self.shared)

    async def there(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.link.there:
            assert time.monotonic() < deadline
            self.link.look()
            await asyncio.sleep(0.01)

    async def take(self, refills: dict[str, Refill] = SLOW, **wanted: float) -> Any:
        """What Redis says."""
        await self.there()
        return await self.shared.take("caller", refills, wanted)


@asynccontextmanager
async def servers(url: str, count: int) -> Any:
    async with AsyncExitStack() as stack:
        made = [Server(url) for _ in range(count)]
        for server in made:
            stack.push_async_callback(server.link.close)
            stack.push_async_callback(server.shared.close)
            await server.there()
        yield made


def test_servers_give_away_no_more_together_than_one_bucket_holds(redis):
    async def run() -> None:
        async with servers(redis.url, 3) as made:
            granted = 0
            for _ in range(40):
                said = await asyncio.gather(
                    *(s.take(requests=1.0, tokens=30.0) for s in made for _ in range(2))
                )
                granted += sum(refusal is None for refusal, _ in said)
            assert granted == 33
            refusal, _ = await made[0].take(requests=1.0, tokens=30.0)
            assert refusal.quota == "tokens"

    asyncio.run(run())


def test_the_script_counts_as_the_buckets_do(redis):
    async def run() -> None:
        async with servers(redis.url, 1) as (server,):
            local = Buckets(SLOW, 0.0)
            for wanted in (
                {"requests": 1.0, "tokens": 0.1},
                {"requests": 48.5, "tokens": 900.0},
                {"requests": 1.0, "tokens": 50.0},
                {"requests": 0.0, "tokens": 200.0},
                {"requests": -3.0, "tokens": -50.0},
                {"requests": -300.0, "tokens": -5000.0},
                {"requests": 50.0, "tokens": 1000.0},
            ):
                said = await server.take(**wanted)
                expected = local.take(0.0, **wanted)
                refusal, levels = said
                assert levels == pytest.approx(local.levels, abs=1e-3)
                if expected is None:
                    assert refusal is None
                else:
                    assert refusal == Refusal(
                        expected.quota, pytest.approx(expected.wait_s, rel=1e-3)
                    )

    asyncio.run(run())


def test_they_fill_again_and_are_forgotten_when_full(redis):
    async def run() -> None:
        async with servers(redis.url, 1) as (server,):
            fast = {"requests": Refill(1000.0, 5.0)}
            deadline = time.monotonic() + PATIENCE_S
            granted = 0
            while granted < 50:
                assert time.monotonic() < deadline
                refusal, _ = await server.take(fast, requests=5.0)
                granted += 5 * (refusal is None)
            (name,) = [
                word for word in redis.ask("KEYS", "*").split(b"\r\n") if word[:5] == b"xlmr:"
            ]
            assert 0 < int(redis.ask("TTL", name)[1:-2]) <= 61

    asyncio.run(run())


def test_names_of_callers_do_not_stand_in_redis(redis):
    async def run() -> None:
        async with servers(redis.url, 1) as (server,):
            await server.shared.take("somebody@example.com", SLOW, {"requests": 1.0})
            assert redis.ask("DBSIZE") == b":1\r\n"
            assert b"somebody" not in redis.ask("KEYS", "*")

    asyncio.run(run())


def test_while_redis_is_away_each_server_counts_for_itself_from_what_it_last_heard(redis):
    async def run() -> None:
        async with servers(redis.url, 1) as (server,):
            caller = Caller("caller")
            for _ in range(3):
                await server.quotas.open(caller, items=1).take(300)
            redis.kill()
            for _ in range(2):
                await server.quotas.open(caller, items=1).take(50)
            with pytest.raises(QuotaError):
                await server.quotas.open(caller, items=1).take(50)
            assert not server.link.there
            redis.start()
            assert (await server.take(requests=1.0, tokens=1000.0))[0] is None

    asyncio.run(run())


def test_what_is_given_back_is_there_for_all(redis):
    async def run() -> None:
        async with servers(redis.url, 2) as (one, two):
            await one.there()
            charge = one.quotas.open(Caller("caller"), items=1)
            await charge.take(1000)
            charge.give_back()
            await one.shared.close()
            await two.there()
            await two.quotas.open(Caller("caller"), items=1).take(1000)

    asyncio.run(run())


def test_one_that_is_full_leaves_the_counting_to_each_server(redis):
    async def run() -> None:
        async with servers(redis.url, 1) as (server,):
            redis.ask("CONFIG", "SET", "maxmemory", "1")
            assert await server.take(requests=1.0) is None
            for _ in range(50):
                await server.quotas.open(Caller("caller"), items=1).take(1)
            with pytest.raises(QuotaError):
                server.quotas.open(Caller("caller"), items=1)

    asyncio.run(run())
