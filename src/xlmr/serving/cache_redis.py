"""Answers that several servers share through Redis.

It is asked within the time a call has (see `redis_link`), and told in the background: a request
waits for no write. Whatever goes wrong is an answer less that is known, and a count in the metrics.
Neither keys nor values hold text; sentence vectors, though, tell something of theirs, so a Redis
that strangers reach wants a password and TLS (`rediss://`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from xlmr.serving.redis_link import AwayError, RedisLink, Rounds

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from xlmr.telemetry.metrics import Metrics

_PREFIX = b"xlmr:answer:"
# What fits into a call's time with room to spare, also where values are long vectors.
_KEYS_PER_CALL = 64
_BYTES_PER_CALL = 256 * 1024
# What waits to be written while Redis is slow; beyond it answers are not shared.
_WAITING_BYTES = 16 * 1024 * 1024


class RedisAnswers:
    """Keys to values in Redis, each for `ttl_s` seconds. Belongs to one event loop."""

    def __init__(self, link: RedisLink, *, ttl_s: int, metrics: Metrics) -> None:
        self._link = link
        self._ttl_s = ttl_s
        self._metrics = metrics
        self._reading: Rounds[Sequence[bytes], Sequence[bytes | None]] = Rounds(
            self._read, most=_KEYS_PER_CALL, timeout_s=link.timeout_s, size=len
        )
        self._waiting: dict[bytes, bytes] = {}
        self._waiting_bytes = 0
        self._writing: asyncio.Task[None] | None = None

    async def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """A value or None for each key; all None where Redis is away."""
        if not self._link.there:
            self._link.look()
            return [None] * len(keys)
        chunks = [keys[i : i + _KEYS_PER_CALL] for i in range(0, len(keys), _KEYS_PER_CALL)]
        if len(chunks) == 1:
            return await self._values(keys)
        found = await asyncio.gather(*map(self._values, chunks))
        return [value for values in found for value in values]

    def put_many(self, values: Mapping[bytes, bytes]) -> None:
        """Has the values written in the background, as long as Redis keeps up."""
        if not self._link.there:
            return
        for key, value in values.items():
            if (
                len(value) <= _BYTES_PER_CALL
                and self._waiting_bytes + len(value) <= _WAITING_BYTES
                and key not in self._waiting
            ):
                self._waiting[key] = value
                self._waiting_bytes += len(value)
        if self._waiting and self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def close(self) -> None:
        """Waits until what can be written is."""
        await self._reading.close()
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def _values(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        try:
            return await self._reading.ask(keys)
        except AwayError as away:
            if away.tried:
                self._metrics.redis_fault("cache")
            return [None] * len(keys)

    async def _read(self, asked: Sequence[Sequence[bytes]]) -> Sequence[Sequence[bytes | None]]:
        """One round of questions with one command."""
        names = [_PREFIX + key for keys in asked for key in keys]
        got = await self._link.call(lambda redis: redis.mget(names))
        values = iter(cast("list[bytes | None]", got))
        return [[next(values) for _ in keys] for keys in asked]

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self._write_some(self._next())
        except AwayError as away:
            if away.tried:
                self._metrics.redis_fault("cache")
            self._waiting.clear()
            self._waiting_bytes = 0
        finally:
            self._writing = None

    def _next(self) -> dict[bytes, bytes]:
        """As much as one call carries."""
        some: dict[bytes, bytes] = {}
        size = 0
        for key, value in self._waiting.items():
            if some and (len(some) == _KEYS_PER_CALL or size + len(value) > _BYTES_PER_CALL):
                break
            some[key] = value
            size += len(value)
        for key in some:
            del self._waiting[key]
        self._waiting_bytes -= size
        return some

    async def _write_some(self, values: Mapping[bytes, bytes]) -> None:
        async def write(redis: Redis) -> None:
            pipeline = redis.pipeline(transaction=False)
            for key, value in values.items():
                pipeline.set(_PREFIX + key, value, ex=self._ttl_s)
            # One that Redis will not keep, for want of room, does not concern the others.
            written = await pipeline.execute(raise_on_error=False)
            if not all(one is True for one in written):
                self._metrics.redis_fault("cache")

        await self._link.call(write)
