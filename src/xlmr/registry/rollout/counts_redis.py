"""Counts of a rollout in Redis, which adds them up itself.

An addition is one script: it counts once and whole, or not at all. A Redis that forgets makes a
stage wait for its counts again; it lets nothing pass.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from xlmr.errors import MissingExtraError, RegistryUnavailableError, SettingsError
from xlmr.registry.rollout.burn import MINUTE, Window
from xlmr.registry.rollout.counts import KEPT_MINUTES, Kind, windows_of
from xlmr.registry.rollout.evidence import Evidence

if TYPE_CHECKING:
    from redis import Redis

AnswerT = TypeVar("AnswerT")
_TIMEOUT_S = 2.0
# Of rollouts that nobody ended, or that somebody counted for after their end.
_KEPT_S = 90 * 86_400

# KEYS: the counts of an epoch, and its minutes. ARGV: the server's field, the number of the
# addition, how long to keep it, how many counts follow; then field and amount of each count, and
# of each minute.
_ADD = """
if tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') >= tonumber(ARGV[2]) then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local counts = 4 + 2 * tonumber(ARGV[4])
for i = 5, #ARGV, 2 do
  redis.call('HINCRBY', i <= counts and KEYS[1] or KEYS[2], ARGV[i], ARGV[i + 1])
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
"""


class RedisCounts:
    """Counts in Redis. For threads; a call takes two seconds at most.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with user, password and database as they need.

    Raises:
        MissingExtraError: redis is not installed.
        SettingsError: the URL is none.
    """

    kind: Kind = "redis"

    def __init__(self, url: str) -> None:
        self._client = _client(url)

    def close(self) -> None:
        """Gives its connections back."""
        self._client.close()

    def add(
        self,
        salt: str,
        epoch: int,
        *,
        server: str,
        sequence: int,
        evidence: Evidence,
        minutes: Mapping[int, Window],
    ) -> bool:
        """As `CountStore.add`."""
        counts = list(_fields(evidence))
        words: list[str | int] = [_field("server", server), sequence, _KEPT_S, len(counts)]
        for field, amount in counts:
            words += (field, amount)
        for minute, window in minutes.items():
            words += (_field("units", minute), window.units)
            words += (_field("harmed", minute), window.harmed)
        keys = _keys(salt, epoch)
        return bool(_asked(lambda: self._client.eval(_ADD, len(keys), *keys, *words)))

    def read(self, salt: str, epoch: int) -> Evidence:
        """As `CountStore.read`."""
        return _evidence(_asked(lambda: self._client.hgetall(_keys(salt, epoch)[0])))

    def windows(self, salt: str, epoch: int, now: float) -> Mapping[int, Window]:
        """As `CountStore.windows`."""
        key = _keys(salt, epoch)[1]
        held: dict[str, str] = _asked(lambda: self._client.hgetall(key))
        minutes: dict[int, dict[str, int]] = {}
        for field, count in held.items():
            what, minute = json.loads(field)
            minutes.setdefault(minute, {})[what] = int(count)
        least = int(now // MINUTE) - KEPT_MINUTES
        old = [field for field in held if json.loads(field)[1] <= least]
        if old:
            _asked(lambda: self._client.hdel(key, *old))
        return windows_of({minute: Window(**found) for minute, found in minutes.items()}, now)

    def forget(self, salt: str, *, before: int) -> None:
        """As `CountStore.forget`."""
        old = [key for epoch in range(before) for key in _keys(salt, epoch)]
        # One by one: in a cluster they lie apart.
        _asked(lambda: [self._client.delete(key) for key in old])


def _keys(salt: str, epoch: int) -> tuple[str, str]:
    # The braces keep both in one slot of a cluster.
    whole = f"xlmr:rollout:{{{salt}:{epoch}}}"
    return f"{whole}:counts", f"{whole}:minutes"


def _field(*parts: str | int) -> str:
    return json.dumps(parts)


def _fields(evidence: Evidence) -> Iterator[tuple[str, int]]:
    """Every count with the field it is kept in."""
    told = evidence.to_json()
    for arm, languages in told["arms"].items():
        for language, counts in languages.items():
            yield _field("units", arm, language), counts["units"]
            for what in ("events", "labels"):
                for name, count in counts[what].items():
                    yield _field(what, arm, language, name), count
    for language, pairs in told["pairs"].items():
        for name, count in pairs.items():
            yield _field("pairs", language, name), count


def _evidence(held: Mapping[str, str]) -> Evidence:
    """The evidence that `_fields` took apart."""
    arms: dict[str, Any] = {}
    pairs: dict[str, dict[str, int]] = {}
    for field, said in held.items():
        match json.loads(field), int(said):
            case ["units", arm, language], count:
                arms.setdefault(arm, {}).setdefault(language, {})["units"] = count
            case ["events" | "labels" as what, arm, language, name], count:
                counts = arms.setdefault(arm, {}).setdefault(language, {})
                counts.setdefault(what, {})[name] = count
            case ["pairs", language, name], count:
                pairs.setdefault(language, {})[name] = count
    return Evidence.from_json({"arms": arms, "pairs": pairs}, origin="counts in Redis")


def _asked(call: Callable[[], Any]) -> Any:
    import redis.exceptions

    try:
        return call()
    except (OSError, redis.exceptions.RedisError) as fault:
        # Not its words: an error of Redis may quote what it was sent.
        raise RegistryUnavailableError(
            f"the Redis that holds a rollout's counts does not answer ({type(fault).__name__})",
            hint="XLMR_REDIS_URL names it",
        ) from None


def _client(url: str) -> Redis:
    try:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise MissingExtraError("redis", extra="redis") from None
    # Once more on a connection that went stale: an addition counts once.
    again = Retry(NoBackoff(), 1)
    try:
        return Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=again,
        )
    except ValueError:
        raise SettingsError(
            "XLMR_REDIS_URL is no URL of a Redis", hint="for example redis://host:6379/0"
        ) from None
