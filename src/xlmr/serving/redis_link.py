"""The way to Redis: every call has five milliseconds, and while Redis is away nobody waits at all.

A lost connection, or three calls in a row without an answer in time, breaks the circuit: from then
on calls fail at once, and in the background Redis is asked, with growing pauses, whether it is
back. Connections are made there as well, so that none has to be made within a call's time.
Questions asked at the same time travel together: a few connections carry them all. Belongs to one
event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from xlmr.errors import MissingExtraError, SettingsError

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")
QuestionT = TypeVar("QuestionT")
AnswerT = TypeVar("AnswerT")

logger = logging.getLogger("xlmr.serving.redis")

TIMEOUT_S = 0.005
# In the background there is time: for a handshake over TLS, or a host far away.
_PATIENT_S = 1.0
_PAUSES_S = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
# One for reading answers, one for writing them, one for quotas, and one to spare.
_CONNECTIONS = 4
# A busy moment makes one of these late; a Redis that is gone, or too far away, all of them.
_MOST_LATE = 3


class AwayError(Exception):
    """Redis did not answer in time, or is known to be away and was not asked.

    Attributes:
        tried: whether it was asked.
    """

    def __init__(self, *, tried: bool) -> None:
        super().__init__()
        self.tried = tried


class RedisLink:
    """Redis behind a circuit breaker.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with user, password and database as they need.
        timeout_s: how long a call may take.

    Raises:
        MissingExtraError: redis is not installed.
        SettingsError: the URL is none.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._client = _client(url)
        self._there = False
        self._closed = False
        self._late = 0
        self._failures = 0
        self._looking: asyncio.Task[None] | None = None

    @property
    def there(self) -> bool:
        """Whether calls are made; false from a fault until Redis has answered again."""
        return self._there

    async def call(self, work: Callable[[Redis], Awaitable[T]]) -> T:
        """What Redis says.

        Raises:
            AwayError: nothing, within the time it has; `tried` tells whether it was asked.
        """
        import redis.exceptions

        if not self._there:
            self.look()
            raise AwayError(tried=False)
        try:
            async with asyncio.timeout(self.timeout_s):
                answer = await work(self._client)
        except redis.exceptions.ResponseError:
            # It is there, and will not do this: it is full, or may not.
            raise AwayError(tried=True) from None
        except (TimeoutError, OSError, redis.exceptions.RedisError) as fault:
            self._late += 1
            if self._late >= _MOST_LATE or not isinstance(fault, TimeoutError):
                self._there = False
                self.look()
            raise AwayError(tried=True) from None
        self._late = self._failures = 0
        return answer

    def look(self) -> None:
        """Begins to look whether Redis is there, unless somebody looks already."""
        if self._looking is None and not self._closed:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def close(self) -> None:
        """Gives the connections back. Calling it twice is harmless."""
        self._closed = True
        self._there = False
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PATIENT_S):
                await self._client.aclose()

    async def _look(self) -> None:
        """Asks until there is an answer. One late call is no outage, and is not spoken of."""
        import redis.exceptions

        said = False
        try:
            while not self._there and not self._closed:
                await asyncio.sleep(_PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)])
                self._failures += 1
                try:
                    await self._greet()
                except (TimeoutError, OSError, redis.exceptions.RedisError) as fault:
                    # Not its words: an error of Redis may quote what it was sent.
                    if not said:
                        kind = type(fault).__name__
                        logger.warning("redis does not answer (%s); going on without it", kind)
                    said = True
                    with suppress(OSError, redis.exceptions.RedisError):
                        await self._client.connection_pool.disconnect()
                else:
                    self._late = 0
                    self._there = True
            if said:
                logger.warning("redis answers again")
        finally:
            self._looking = None

    async def _greet(self) -> None:
        """Makes the connections, and sees whether calls over them come back in time."""
        async with asyncio.timeout(_PATIENT_S):
            await asyncio.gather(*(self._client.ping() for _ in range(_CONNECTIONS)))
        for tries in range(_MOST_LATE):
            try:
                async with asyncio.timeout(self.timeout_s):
                    await self._client.ping()
                    return
            except TimeoutError:
                if tries == _MOST_LATE - 1:
                    raise


class Rounds(Generic[QuestionT, AnswerT]):
    """Questions that are asked while others are on their way leave together with the next round.

    Args:
        carry: takes the questions of a round and gives an answer for each, in order, or raises
            `AwayError`.
        most: how much a round takes; a single question that is larger travels alone.
        timeout_s: how long a question waits for its answer, its wait for the round included.
        size: of a question.
    """

    def __init__(
        self,
        carry: Callable[[Sequence[QuestionT]], Awaitable[Sequence[AnswerT]]],
        *,
        most: int,
        timeout_s: float,
        size: Callable[[QuestionT], int] = lambda question: 1,
    ) -> None:
        self._carry = carry
        self._most = most
        self._size = size
        self._timeout_s = timeout_s
        self._waiting: deque[tuple[QuestionT, asyncio.Future[AnswerT]]] = deque()
        self._travelling: asyncio.Task[None] | None = None

    async def ask(self, question: QuestionT) -> AnswerT:
        """The answer, within the time a call has, waiting for others included.

        Raises:
            AwayError: there is none.
        """
        loop = asyncio.get_running_loop()
        told: asyncio.Future[AnswerT] = loop.create_future()
        self._waiting.append((question, told))
        if self._travelling is None:
            self._travelling = loop.create_task(self._travel())
        late = loop.call_later(self._timeout_s, _give_up, told)
        try:
            return await told
        finally:
            late.cancel()

    async def close(self) -> None:
        """Waits for the round that is on its way."""
        if self._travelling is not None:
            await asyncio.wait([self._travelling])

    async def _travel(self) -> None:
        try:
            while self._waiting:
                round = self._next()
                if not round:
                    continue
                try:
                    answers = await self._carry([question for question, _ in round])
                except AwayError as away:
                    for _, told in round:
                        if not told.done():
                            told.set_exception(AwayError(tried=away.tried))
                    continue
                for (_, told), answer in zip(round, answers, strict=True):
                    if not told.done():
                        told.set_result(answer)
        finally:
            self._travelling = None

    def _next(self) -> list[tuple[QuestionT, asyncio.Future[AnswerT]]]:
        """As many as a round takes, of those who still wait."""
        round: list[tuple[QuestionT, asyncio.Future[AnswerT]]] = []
        room = self._most
        while self._waiting and (not round or self._size(self._waiting[0][0]) <= room):
            question, told = self._waiting.popleft()
            if not told.done():
                room -= self._size(question)
                round.append((question, told))
        return round


def _give_up(told: asyncio.Future[Any]) -> None:
    if not told.done():
        told.set_exception(AwayError(tried=True))


def _client(url: str) -> Redis:
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise MissingExtraError("redis", extra="redis") from None
    settings: dict[str, Any] = {
        "protocol": 2,
        # Time is kept here, and a call that failed is not made again: its time is over.
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": 4 * _CONNECTIONS,
    }
    try:
        return Redis.from_url(url, **settings)
    except ValueError:
        # Not its words: the URL may hold a password.
        raise SettingsError(
            "XLMR_REDIS_URL is no URL of a Redis server",
            hint="for example redis://localhost:6379/0, rediss:// for TLS, unix:// for a socket",
        ) from None
