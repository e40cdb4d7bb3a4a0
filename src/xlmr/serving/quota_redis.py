"""Callers' buckets that several servers share through Redis.

Filling and taking are one script there, so two servers never give the same tokens away. It goes by
Redis' clock; a jump of that clock grants at most one burst.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xlmr.serving.quota import Refill, Refusal
from xlmr.serving.redis_link import AwayError, RedisLink, Rounds

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from xlmr.telemetry.metrics import Metrics

_PREFIX = b"xlmr:quota:"
_CALLS_AT_ONCE = 128

# KEYS[1]: a hash with the level of each bucket and the time they were last filled.
# ARGV: name, rate, burst and wanted amount of each bucket. Numbers travel as text: Lua's own would
# be cut to integers on their way out. A negative amount is given back.
# Says the name of the bucket that takes longest to hold enough, the seconds it takes, and levels.
_TAKE = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local known = redis.call('HGET', KEYS[1], 'at')
local passed = known and math.max(0, now - tonumber(known)) or 0
local levels, short, wait, idle = {}, '', 0, 0
for i = 1, #ARGV, 4 do
  local name, rate = ARGV[i], tonumber(ARGV[i + 1])
  local burst, wanted = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local level = redis.call('HGET', KEYS[1], name)
  level = level and math.min(burst, tonumber(level) + passed * rate) or burst
  levels[i] = level
  local missing = wanted - level
  if missing > 0 and missing / rate > wait then
    short, wait = name, missing / rate
  end
  idle = math.max(idle, burst / rate)
end
local said = {short, string.format('%.6f', wait)}
for i = 1, #ARGV, 4 do
  if short == '' then
    levels[i] = math.min(tonumber(ARGV[i + 2]), levels[i] - tonumber(ARGV[i + 3]))
  end
  local level = string.format('%.6f', levels[i])
  redis.call('HSET', KEYS[1], ARGV[i], level)
  said[#said + 1] = level
end
redis.call('HSET', KEYS[1], 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], math.ceil(idle) + 60)
return said
"""


class RedisBuckets:
    """Buckets in Redis, by a digest of the caller's name. Belongs to one event loop."""

    def __init__(self, link: RedisLink, *, metrics: Metrics) -> None:
        self._link = link
        self._metrics = metrics
        self._rounds: Rounds[Sequence[str | bytes], Any] = Rounds(
            self._carry, most=_CALLS_AT_ONCE, timeout_s=link.timeout_s
        )
        self._giving: set[asyncio.Task[Any]] = set()

    async def take(
        self, name: str, refills: dict[str, Refill], wanted: dict[str, float]
    ) -> tuple[Refusal | None, dict[str, float]] | None:
        """As `Buckets.take`, and the levels afterwards; None where Redis does not say."""
        if not self._link.there:
            self._link.look()
            return None
        try:
            said = await self._rounds.ask(_arguments(name, refills, wanted))
        except AwayError as away:
            if away.tried:
                self._metrics.redis_fault("quota")
            return None
        if isinstance(said, Exception):
            self._metrics.redis_fault("quota")
            return None
        short, wait, *levels = (word.decode() for word in said)
        refusal = Refusal(short, float(wait)) if short else None
        return refusal, dict(zip(refills, map(float, levels), strict=True))

    def give_back(self, name: str, refills: dict[str, Refill], amounts: dict[str, float]) -> None:
        """Gives back in the background."""
        wanted = {quota: -amount for quota, amount in amounts.items()}
        giving = asyncio.get_running_loop().create_task(self.take(name, refills, wanted))
        self._giving.add(giving)
        giving.add_done_callback(self._giving.discard)

    async def close(self) -> None:
        """Waits for what is on its way."""
        if self._giving:
            await asyncio.wait(set(self._giving))
        await self._rounds.close()

    async def _carry(self, calls: Sequence[Sequence[str | bytes]]) -> Sequence[Any]:
        async def work(redis: Redis) -> list[Any]:
            pipeline = redis.pipeline(transaction=False)
            for key, *arguments in calls:
                pipeline.eval(_TAKE, 1, key, *arguments)
            # One that fails, for want of room, does not concern the others.
            return await pipeline.execute(raise_on_error=False)

        return await self._link.call(work)


def _arguments(
    name: str, refills: dict[str, Refill], wanted: dict[str, float]
) -> list[str | bytes]:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16)
    # Whose quota is changed begins anew.
    digest.update(repr(refills).encode())
    arguments: list[str | bytes] = [_PREFIX + digest.digest()]
    for quota, refill in refills.items():
        arguments += [quota, repr(refill.rate), repr(refill.burst), repr(wanted.get(quota, 0.0))]
    return arguments
