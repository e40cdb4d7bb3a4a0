"""What a server need not work out alone, as the settings say: its cache, and callers' quotas."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xlmr.serving.cache import AnswerCache
from xlmr.serving.cache_redis import RedisAnswers
from xlmr.serving.cache_store import Store
from xlmr.serving.quota import Quotas
from xlmr.serving.quota_redis import RedisBuckets
from xlmr.serving.redis_link import RedisLink
from xlmr.types import Quota

if TYPE_CHECKING:
    from xlmr.settings import Settings
    from xlmr.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Sharing:
    """A cache, None where it is off; quotas; and what gives Redis back, on the event loop."""

    cache: AnswerCache | None
    quotas: Quotas
    close: Callable[[], Awaitable[None]]


def open_sharing(settings: Settings, metrics: Metrics) -> Sharing:
    """Connects to nothing yet: Redis is sought when it is needed first.

    Raises:
        MissingExtraError: Redis is to be used, and the package for it is not installed.
        SettingsError: its URL is none.
    """
    default = Quota(
        requests_per_s=settings.quota_requests_per_s,
        request_burst=settings.quota_request_burst,
        tokens_per_s=settings.quota_tokens_per_s,
        token_burst=settings.quota_token_burst,
    )
    store = Store(settings.cache_bytes) if settings.cache_bytes else None
    if not settings.redis_url:
        cache = None if store is None else AnswerCache(store, metrics=metrics)
        return Sharing(cache, Quotas(metrics=metrics, default=default), _nothing)
    link = RedisLink(settings.redis_url, timeout_s=settings.redis_timeout_ms / 1000)
    answers = RedisAnswers(link, ttl_s=settings.cache_ttl_s, metrics=metrics)
    buckets = RedisBuckets(link, metrics=metrics)

    async def close() -> None:
        await answers.close()
        await buckets.close()
        await link.close()

    secret = settings.cache_secret.encode("utf-8", "surrogateescape")
    return Sharing(
        None
        if store is None
        else AnswerCache(store, metrics=metrics, shared=answers, secret=secret),
        Quotas(metrics=metrics, default=default, shared=buckets),
        close,
    )


async def _nothing() -> None:
    """Where there is no Redis."""
