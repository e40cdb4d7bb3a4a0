"""Answers shared through a real Redis, which may go and come back at any time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services import RedisServer, redis_server

from xlmr.errors import SettingsError
from xlmr.serving.cache_redis import RedisAnswers
from xlmr.serving.redis_link import TIMEOUT_S, AwayError, RedisLink, Rounds
from xlmr.telemetry.metrics import Metrics

# Far more than any timeout here, far less than forever.
PATIENCE_S = 20


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def with_answers(
    url: str,
    work: Callable[[RedisAnswers, RedisLink, Metrics], Awaitable[None]],
    *,
    ttl_s: int = 100,
    timeout_s: float = PATIENCE_S,
) -> None:
    async def run() -> None:
        metrics, link = Metrics(), RedisLink(url, timeout_s=timeout_s)
        answers = RedisAnswers(link, ttl_s=ttl_s, metrics=metrics)
        link.look()
        await until(lambda: link.there or link._failures > 0)
        try:
            await work(answers, link, metrics)
        finally:
            await answers.close()
            await link.close()

    asyncio.run(run())


async def patiently(answers: RedisAnswers, link: RedisLink, *numbers: int) -> list[Any]:
    """What is there once Redis is; single calls may be late on a busy machine."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = list(await answers.get_many([key(number) for number in numbers]))
        if any(value is not None for value in found) or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.02)


async def written(answers: RedisAnswers, redis: RedisServer, values: dict[bytes, bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while any(redis.ask("EXISTS", b"xlmr:answer:" + name) != b":1\r\n" for name in values):
        assert time.monotonic() < deadline
        answers.put_many(values)
        await answers.close()
        await asyncio.sleep(0.02)


def test_values_come_back_whole_and_leave_in_time(redis):
    async def work(answers: RedisAnswers, link: RedisLink, metrics: Metrics) -> None:
        values = {key(n): bytes([n % 256]) * (n * 50) for n in range(1, 200)}
        await written(answers, redis, values)
        assert await answers.get_many([key(n) for n in (1, 500, 7, 7)]) == [
            values[key(1)],
            None,
            values[key(7)],
            values[key(7)],
        ]
        assert await answers.get_many(list(values)) == list(values.values())
        left = redis.ask("TTL", b"xlmr:answer:" + key(1))
        assert 0 < int(left[1:-2]) <= 77

    with_answers(redis.url, work, ttl_s=77)


def test_requests_at_the_same_time_share_a_few_connections(redis):
    async def work(answers: RedisAnswers, link: RedisLink, metrics: Metrics) -> None:
        await written(answers, redis, {key(n): b"%d" % n for n in range(10)})
        for _ in range(20):
            found = await asyncio.gather(*(answers.get_many([key(n % 10)]) for n in range(300)))
            for number, values in enumerate(found):
                assert values == [b"%d" % (number % 10)]
        about = redis.ask("INFO", "clients").decode()
        assert int(about.split("connected_clients:")[1].split()[0]) <= 4 + 1

    with_answers(redis.url, work)


def test_where_there_is_no_redis_nobody_waits():
    async def work(answers: RedisAnswers, link: RedisLink, metrics: Metrics) -> None:
        assert not link.there
        for _ in range(50):
            assert await answers.get_many([key(1), key(2)]) == [None, None]
            answers.put_many({key(1): b"1"})
        assert answers._waiting == {}

    with_answers("redis://127.0.0.1:1/0", work)


def test_frozen_it_costs_a_few_timeouts_and_then_nothing_and_thawed_it_is_used_again(redis):
    async def work(answers: RedisAnswers, link: RedisLink, metrics: Metrics) -> None:
        await written(answers, redis, {key(1): b"one", key(2): b"two"})
        assert await patiently(answers, link, 1) == [b"one"]
        await until(lambda: link.there)
        redis.freeze()
        for _ in range(3):
            both = await asyncio.gather(*(answers.get_many([key(n)]) for n in (1, 2)))
            assert both == [[None]] * 2
        await until(lambda: not link.there)
        faults = metrics.value("xlmr_redis_faults_total", use="cache")
        assert faults >= 1
        for _ in range(200):
            assert await answers.get_many([key(1)]) == [None]
            answers.put_many({key(3): b"three"})
        assert metrics.value("xlmr_redis_faults_total", use="cache") == faults
        redis.thaw()
        # What the frozen server says late must not be taken for the answer to another question.
        assert await patiently(answers, link, 2, 1) == [b"two", b"one"]

    with_answers(redis.url, work, timeout_s=TIMEOUT_S)


def test_killed_it_is_missed_by_nobody_and_started_again_it_is_used_again(redis):
    async def work(answers: RedisAnswers, link: RedisLink, metrics: Metrics) -> None:
        await written(answers, redis, {key(1): b"one"})
        redis.kill()
        assert await answers.get_many([key(1)]) == [None]
        answers.put_many({key(2): b"two"})
        assert not link.there
        redis.start()
        link.look()
        await written(answers, redis, {key(3): b"three"})
        assert await patiently(answers, link, 1, 3) == [None, b"three"]

    with_answers(redis.url, work)


def test_killed_while_questions_are_on_their_way_all_are_answered(redis):
    async def work(answers: RedisAnswers, link: RedisLink, metrics: Metrics) -> None:
        async def asks(number: int) -> None:
            for _ in range(50):
                found = await answers.get_many([key(number)])
                assert found in ([None], [b"%d" % number])
                answers.put_many({key(number): b"%d" % number})

        asking = [asyncio.create_task(asks(n)) for n in range(20)]
        await asyncio.sleep(0.02)
        redis.kill()
        await asyncio.wait_for(asyncio.gather(*asking), PATIENCE_S)

    with_answers(redis.url, work)


def test_one_that_is_full_is_still_read(redis):
    async def work(answers: RedisAnswers, link: RedisLink, metrics: Metrics) -> None:
        await written(answers, redis, {key(1): b"one"})
        redis.ask("CONFIG", "SET", "maxmemory", "1")
        deadline = time.monotonic() + PATIENCE_S
        while not metrics.value("xlmr_redis_faults_total", use="cache"):
            assert time.monotonic() < deadline
            answers.put_many({key(2): b"two"})
            await answers.close()
        assert await patiently(answers, link, 2, 1) == [None, b"one"]

    with_answers(redis.url, work)


def test_what_cannot_be_written_in_time_does_not_pile_up(redis):
    async def work(answers: RedisAnswers, link: RedisLink, metrics: Metrics) -> None:
        await until(lambda: link.there)
        answers.put_many({key(n): bytes(200_000) for n in range(200)})
        assert answers._waiting_bytes <= 16 * 1024 * 1024
        answers.put_many({key(1000): bytes(300_000)})
        assert key(1000) not in answers._waiting
        await answers.close()
        assert answers._waiting_bytes == 0

    with_answers(redis.url, work)


@pytest.mark.parametrize("url", ["nonsense", "http://localhost", "redis://localhost:secret7"])
def test_a_url_that_is_none_is_refused_without_being_quoted(url):
    with pytest.raises(SettingsError) as refusal:
        RedisLink(url)
    assert "XLMR_REDIS_URL" in str(refusal.value)
    assert url not in str(refusal.value)


def test_questions_asked_together_travel_together_and_none_waits_longer_than_its_time():
    async def run() -> None:
        rounds_seen: list[list[int]] = []
        gate = asyncio.Event()

        async def carry(questions: Any) -> list[int]:
            rounds_seen.append(list(questions))
            await gate.wait()
            if 13 in questions:
                raise AwayError(tried=True)
            return [question * 2 for question in questions]

        rounds: Rounds[int, int] = Rounds(carry, most=3, timeout_s=PATIENCE_S)
        asking = [asyncio.create_task(rounds.ask(n)) for n in range(8)]
        await asyncio.sleep(0)
        asking[4].cancel()
        await asyncio.sleep(0)
        gate.set()
        told = await asyncio.gather(*asking, return_exceptions=True)
        assert [t for t in told if not isinstance(t, BaseException)] == [0, 2, 4, 6, 10, 12, 14]
        assert rounds_seen == [[0, 1, 2], [3, 5, 6], [7]]
        with pytest.raises(AwayError):
            await rounds.ask(13)
        await rounds.close()

        hasty: Rounds[int, int] = Rounds(carry, most=3, timeout_s=TIMEOUT_S)
        gate.clear()
        with pytest.raises(AwayError):
            await asyncio.wait_for(hasty.ask(1), PATIENCE_S)
        gate.set()
        await hasty.close()

    asyncio.run(run())
