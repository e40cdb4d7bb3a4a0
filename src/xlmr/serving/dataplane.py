"""The life of a request, on one page: `Dataplane.answer`.

Every door calls it and none reaches past it. It knows no HTTP: it takes a `Question`, gives
`Answered` or raises one of the tree in `xlmr.errors`, and each path it names starts where the door
said the texts stand.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from xlmr.errors import InputError, UnavailableError, XlmrError
from xlmr.model.prepared import ClassifyOptions as ClassifyOptions
from xlmr.model.prepared import EmbedOptions as EmbedOptions
from xlmr.model.prepared import Options
from xlmr.serving.admission import Limits, admit
from xlmr.serving.batcher import Vectors
from xlmr.serving.pool import Pool, Served
from xlmr.serving.preparation import Item, Part, moved, prepare
from xlmr.telemetry.logs import Fingerprinter, RequestLog, RequestRecord
from xlmr.telemetry.metrics import Metrics, bounded_language
from xlmr.types import Caller, Language, ModelRef

T = TypeVar("T")

ANONYMOUS = Caller()

# Below this many characters a request is tokenised where it stands: handing it to another thread
# would cost more than the work itself, and the event loop does not feel it.
_INLINE_CHARS = 2_000
# Texts being tokenised at the same time, in characters; beyond it requests are refused unworked.
_PREPARING_CHARS = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a door asks. `options` is the task's options value, re-exported here for the doors.

    Attributes:
        id: the request's id, for the log.
        path: where the texts stand in the caller's body; a single text stands there itself.
        listed: whether `path` is a list.
        partial: whether one text's error may stand beside the others' answers.
        deadline: until when an answer is of use, on `time.monotonic`'s clock; None for no limit.
        priority: 0 before 1 before 2.
    """

    id: str
    task: str
    items: Sequence[Item]
    options: Options
    model: str | None = None
    path: str = "$.input"
    listed: bool = True
    partial: bool = True
    caller: Caller = ANONYMOUS
    deadline: float | None = None
    priority: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one text: an answer and its language, or the error that is its own."""

    answer: Any = None
    language: Language | None = None
    error: XlmrError | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of a request went, in seconds."""

    tokenise_s: float = 0.0
    queue_s: float = 0.0
    infer_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answered:
    """Which model answered, one outcome per text, the tokens it computed, and how long it took."""

    id: str
    model: ModelRef
    outcomes: tuple[Outcome, ...]
    tokens: int
    timing: Timing = Timing()


@dataclass(slots=True)
class _Life:
    """What is learned about a request while it lives."""

    question: Question
    started: float = field(default_factory=time.perf_counter)
    model: str = ""
    code: str = "internal"
    answered: Answered | None = None


class Dataplane:
    """Answers questions with the models of a pool. Bound to the event loop it is called from."""

    def __init__(
        self,
        pool: Pool,
        *,
        limits: Limits,
        metrics: Metrics,
        log: RequestLog,
        identify: Callable[[Sequence[str]], Sequence[Language]],
    ) -> None:
        self.pool = pool
        self.metrics = metrics
        self._limits = limits
        self._log = log
        self._identify = identify
        self._fingerprint = Fingerprinter()
        self._executor = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "xlmr-text")
        self._preparing_chars = 0
        self._in_flight = 0
        self._draining = False

    async def answer(self, question: Question) -> Answered:
        """The life of a request.

        Raises:
            InputError: the request, or every one of its texts, cannot be used.
            ModelNotFoundError: no such model.
            TaskError: the model cannot do this.
            UnavailableError: the queue is full, or the server is going down.
            EngineError: the runtime failed.
        """
        life = _Life(question)
        self._in_flight += 1
        try:
            faults = self._admit(question)
            served = self.pool.route(question.model, question.task)
            life.model = served.ref.name
            parts = await self._prepare(served, question, faults)
            vectors, languages = await self._compute(served, parts)
            outcomes = await self._finish(question, faults, parts, vectors, languages)
            life.answered = Answered(question.id, served.ref, outcomes, _tokens(outcomes))
            life.code = "ok"
            return life.answered
        except XlmrError as error:
            life.code = error.code
            if isinstance(error, InputError):
                raise _placed(error, question) from error.__cause__
            raise
        except asyncio.CancelledError:
            life.code = "client_gone"
            raise
        finally:
            self._in_flight -= 1
            self._record(life)

    @property
    def ready(self) -> bool:
        """Whether it takes questions: models loaded, threads alive, not on its way down."""
        return bool(self.pool.models) and self.pool.alive and not self._draining

    @property
    def idle(self) -> bool:
        """Whether no question is being answered."""
        return self._in_flight == 0

    def drain(self) -> None:
        """Takes no further questions; those in flight are answered."""
        self._draining = True

    def close(self) -> None:
        """Gives the text threads back. The pool belongs to whoever opened it."""
        self._executor.shutdown()

    def refused(self, request_id: str, task: str, code: str) -> None:
        """Counts and logs a request that never became a question."""
        self.metrics.request(task=task, model="", code=code, seconds=None)
        self._log.write(
            RequestRecord(
                request=request_id,
                task=task,
                model="",
                code=code,
                ms=0.0,
                items=0,
                tokens=0,
                languages=(),
            )
        )

    def _admit(self, question: Question) -> list[InputError | None]:
        if self._draining:
            raise UnavailableError("the server is going down", retry_after_s=1.0)
        return admit(question.items, self._limits)

    async def _prepare(
        self, served: Served, question: Question, faults: list[InputError | None]
    ) -> list[Part]:
        """Tokenises, off the event loop where that takes noticeable time."""
        size = sum(map(len, question.items))
        if self._preparing_chars + size > _PREPARING_CHARS:
            raise UnavailableError("too many texts are being read", retry_after_s=1.0)
        self._preparing_chars += size
        started = time.perf_counter()
        try:
            parts = await self._off_loop(
                size,
                prepare,
                served.predictor,
                question.task,
                question.items,
                question.options,
                faults,
            )
        finally:
            self._preparing_chars -= size
        self.metrics.stage("tokenise", time.perf_counter() - started)
        refused = [fault for fault in faults if fault is not None]
        if refused and (not parts or not question.partial):
            raise refused[0]
        return parts

    async def _compute(
        self, served: Served, parts: list[Part]
    ) -> tuple[Vectors, Sequence[Language]]:
        """The vectors of all parts; languages are identified while the engine computes."""
        encodings = [encoding for part in parts for encoding in part.prepared.encodings]
        texts = [text for part in parts for text in part.texts]
        computing = asyncio.wrap_future(
            served.batcher.submit(encodings, rows=parts[0].prepared.rows)
        )
        try:
            languages = await self._off_loop(sum(map(len, texts)), self._identify, texts)
            return await computing, languages
        finally:
            computing.cancel()

    async def _finish(
        self,
        question: Question,
        faults: list[InputError | None],
        parts: list[Part],
        vectors: Vectors,
        languages: Sequence[Language],
    ) -> tuple[Outcome, ...]:
        """Vectors become answers, each in its text's place."""
        started = time.perf_counter()
        outcomes = [
            Outcome() if fault is None else Outcome(error=_placed(fault, question))
            for fault in faults
        ]
        size = sum(len(vector) for vector in vectors) if len(parts) == 1 else _INLINE_CHARS
        answers = await self._off_loop(size, _answers, parts, vectors)
        places = (place for part in parts for place in part.places)
        for place, answer, language in zip(places, answers, languages, strict=True):
            outcomes[place] = Outcome(answer, language)
        self.metrics.stage("decode", time.perf_counter() - started)
        return tuple(outcomes)

    async def _off_loop(self, size: int, work: Callable[..., T], *arguments: Any) -> T:
        if size < _INLINE_CHARS:
            return work(*arguments)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, work, *arguments)

    def _record(self, life: _Life) -> None:
        """Counts and logs what became of a request: never its texts."""
        question, answered = life.question, life.answered
        seconds = time.perf_counter() - life.started
        task, model = question.task, life.model
        self.metrics.request(task=task, model=model, code=life.code, seconds=seconds)
        languages: list[str] = []
        if answered is not None:
            languages = self._count_items(task, model, answered)
        self._log.write(
            RequestRecord(
                request=question.id,
                task=task,
                model=model,
                code=life.code,
                ms=round(seconds * 1000, 3),
                items=len(question.items),
                tokens=answered.tokens if answered else 0,
                languages=tuple(languages),
                fingerprints=self._fingerprints(question),
            )
        )

    def _count_items(self, task: str, model: str, answered: Answered) -> list[str]:
        languages: dict[str, None] = {}
        unknown = truncated = 0
        for outcome in answered.outcomes:
            language = bounded_language(outcome.language.code) if outcome.language else "und"
            languages[language] = None
            code = outcome.error.code if outcome.error else "ok"
            self.metrics.item(task=task, model=model, language=language, code=code)
            if outcome.answer is not None:
                unknown += outcome.answer.accounting.unknown
                truncated += outcome.answer.accounting.truncated
        self.metrics.tokens(
            task=task,
            model=model,
            computed=answered.tokens,
            unknown=unknown,
            truncated=truncated,
        )
        return list(languages)

    def _fingerprints(self, question: Question) -> tuple[str, ...]:
        if not self._log.wants_fingerprints:
            return ()
        return tuple(self._fingerprint(item) for item in question.items if isinstance(item, str))


def _answers(parts: list[Part], vectors: Vectors) -> list[Any]:
    answers: list[Any] = []
    first = 0
    for part in parts:
        end = first + len(part.prepared.encodings)
        answers.extend(part.prepared.finish(vectors[first:end]))
        first = end
    return answers


def _tokens(outcomes: Sequence[Outcome]) -> int:
    return sum(o.answer.accounting.tokens for o in outcomes if o.answer is not None)


def _placed(error: InputError, question: Question) -> InputError:
    """The error with its path in the caller's body: `$[3]` becomes `$.input[3]`."""
    path = error.path
    if path.startswith("$[") and not question.listed:
        path = "$" + path[path.index("]") + 1 :]
    if path == "$" or path.startswith("$["):
        return moved(error, question.path + path[1:])
    return error
