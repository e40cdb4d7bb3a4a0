"""Texts become answers: tokenised, queued, computed, decoded; what takes long is off the loop.

Before any of it the queue is asked whether there is time: late work is refused, not done.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from xlmr.errors import DeadlineError, InputError, UnavailableError
from xlmr.serving.asked import Computation, Vectors
from xlmr.serving.batcher import STALLED_SECONDS
from xlmr.serving.finite import require_finite, require_finite_vectors
from xlmr.serving.handover import Handover
from xlmr.serving.outlook import Outlook
from xlmr.serving.preparation import Part, prepare, reading_size
from xlmr.serving.question import refuse_whole
from xlmr.serving.urgency import work_in_background

if TYPE_CHECKING:
    from xlmr.serving.cache import Found
    from xlmr.serving.pool import Served
    from xlmr.serving.recording import Life
    from xlmr.types import Language

T = TypeVar("T")

# Below this many characters a request is tokenised where it stands: handing it to another thread
# would cost more than the work itself, and the event loop does not feel it.
_INLINE_CHARS = 2_000
# Texts being tokenised at the same time, in characters; beyond it requests are refused unworked.
_PREPARING_CHARS = 32 * 1024 * 1024
# What was begun is waited for so long beyond its deadline: it may come any moment.
_GRACE_SECONDS = 2.0
# Stands where a text is none of those that are read just now.
_ELSEWHERE = InputError("")


class Computing:
    """Works for one data plane, and is bound to its event loop."""

    def __init__(
        self, identify: Callable[[Sequence[str]], Sequence[Language]], *, max_tokens: int = 0
    ) -> None:
        self._identify = identify
        self._max_tokens = max_tokens
        self._outlook = Outlook()
        self._executor = ThreadPoolExecutor(
            min(4, os.cpu_count() or 1), "xlmr-text", initializer=work_in_background
        )
        self._preparing_chars = 0
        self._handover = Handover()

    def close(self) -> None:
        """Gives the threads back."""
        self._executor.shutdown()

    async def answers(
        self,
        served: Served,
        life: Life,
        faults: list[InputError | None],
        places: Sequence[int],
    ) -> Mapping[int, Found]:
        """The answers to the texts at some places; of one that has a fault, the fault is written.

        Raises:
            InputError: no text of the request is left to be answered.
            UnavailableError: there is no room or no time; nothing was computed.
            EngineError: the runtime failed, or the model computed what is no number.
        """
        question = life.question
        deadline, priority = question.deadline, question.priority
        least = self._outlook.least(question, places)
        served.batcher.expect(least.load, deadline=deadline, priority=priority)
        try:
            parts = await self._prepare(served, life, faults, places)
        finally:
            served.batcher.expected(least.load)
        if not parts:
            return {}
        encodings = [encoding for part in parts for encoding in part.prepared.encodings]
        tokens = sum([len(encoding.ids) for encoding in encodings])
        self._outlook.learn(least, tokens)
        if self._max_tokens and tokens > self._max_tokens:
            raise InputError(
                f"{tokens} tokens in one request; at most {self._max_tokens} are computed",
                hint="send fewer texts at once",
            )
        life.worked_tokens += tokens
        if life.charge is not None:
            await life.charge.take(tokens)
        rows = parts[0].prepared.rows
        computing = served.batcher.submit(
            encodings, rows=rows, deadline=deadline, priority=priority
        )
        vectors, languages = await self._compute(life, computing, parts)
        answers = await self._decode(life, parts, vectors, languages)
        served.batcher.answered(computing)
        return answers

    async def read(self, life: Life, work: Callable[..., T], *arguments: Any) -> T:
        """Has the texts of a request read, off the event loop where that takes noticeable time."""
        size = reading_size(life.question.items, life.question.options)
        if size > _PREPARING_CHARS:
            raise InputError(
                f"{size} characters to be read; one request may hold {_PREPARING_CHARS}",
                hint="send fewer texts at once, or a shorter query",
            )
        if self._preparing_chars + size > _PREPARING_CHARS:
            raise UnavailableError(
                "too many texts are being read", retry_after_s=1.0, reason="reading"
            )
        self._preparing_chars += size
        started = time.perf_counter()
        try:
            return await self.off_loop(size, work, *arguments)
        finally:
            self._preparing_chars -= size
            life.stage("tokenise", started)

    async def languages(self, texts: Sequence[str]) -> Sequence[Language]:
        """The language of each text."""
        return await self.off_loop(sum(map(len, texts)), self._identify, texts)

    async def off_loop(self, size: int, work: Callable[..., T], *arguments: Any) -> T:
        """Calls it in another thread if that pays, by the characters there are to work on."""
        if size < _INLINE_CHARS:
            return work(*arguments)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, work, *arguments)

    async def _prepare(
        self,
        served: Served,
        life: Life,
        faults: list[InputError | None],
        places: Sequence[int],
    ) -> list[Part]:
        """Tokenises; refuses the request where no text is left to be answered."""
        question = life.question
        found = faults
        if len(places) < len(faults):
            chosen = set(places)
            found = [None if place in chosen else _ELSEWHERE for place in range(len(faults))]
        parts = await self.read(
            life,
            prepare,
            served.predictor,
            question.task,
            question.items,
            question.options,
            found,
        )
        for place in places:
            faults[place] = found[place]
        refuse_whole(question, faults)
        return parts

    async def _compute(
        self, life: Life, computing: Computation, parts: list[Part]
    ) -> tuple[Vectors, Sequence[Language]]:
        """The vectors of all parts; languages are identified while the engine computes."""
        texts = [text for part in parts for text in part.texts]
        deadline, started = life.question.deadline, time.perf_counter()
        try:
            languages = await self.languages(texts)
            now = time.monotonic()
            until = now + STALLED_SECONDS
            if deadline is not None:
                until = min(until, max(now, deadline) + _GRACE_SECONDS)
            vectors = await self._handover.vectors(computing, until=until)
        except TimeoutError:
            raise DeadlineError("the engine did not answer in time", retry_after_s=5.0) from None
        finally:
            # Nobody waits any longer; what has ended is not touched.
            computing.cancel()
        taken = started + computing.queue_s
        life.stage("queue", started, taken)
        life.stage("infer", taken, taken + computing.infer_s)
        if not computing.finite:
            # Something in its batches is no number; only whose it is fails.
            require_finite_vectors(vectors)
        return vectors, languages

    async def _decode(
        self,
        life: Life,
        parts: list[Part],
        vectors: Vectors,
        languages: Sequence[Language],
    ) -> Mapping[int, Found]:
        """Vectors become answers, each for its text's place."""
        started = time.perf_counter()
        size = sum(map(len, vectors)) if len(parts) == 1 else _INLINE_CHARS
        if life.question.task == "fill":
            # Every mask is held against the whole vocabulary: tens of milliseconds.
            size = _INLINE_CHARS
        answers = await self.off_loop(size, _answers, parts, vectors)
        places = [place for part in parts for place in part.places]
        life.stage("decode", started)
        return dict(zip(places, zip(answers, languages, strict=True), strict=True))


def _answers(parts: list[Part], vectors: Vectors) -> list[Any]:
    answers: list[Any] = []
    first = 0
    for part in parts:
        end = first + len(part.prepared.encodings)
        answers.extend(part.finish(vectors[first:end]))
        first = end
    require_finite(answers)
    return answers
