"""The life of a request, on one page: `Dataplane.answer`.

Every door calls it and none reaches past it. It knows no HTTP: it takes a `Question`, gives
`Answered` or raises one of the tree in `xlmr.errors`, and each path it names starts where the door
said the texts stand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xlmr.errors import FeedbackOffError, InputError, TooManyError, UnavailableError, XlmrError
from xlmr.model.prepared import AnswerOptions as AnswerOptions
from xlmr.model.prepared import ClassifyOptions as ClassifyOptions
from xlmr.model.prepared import EmbedOptions as EmbedOptions
from xlmr.model.prepared import FillOptions as FillOptions
from xlmr.model.prepared import RerankOptions as RerankOptions
from xlmr.model.prepared import TagOptions as TagOptions
from xlmr.model.prepared import ZeroShotOptions as ZeroShotOptions
from xlmr.serving.admission import Limits, admit
from xlmr.serving.computing import Computing
from xlmr.serving.doorkeeper import ANONYMOUS as ANONYMOUS
from xlmr.serving.doorkeeper import Doorkeeper
from xlmr.serving.follow.words import share_of as share_of
from xlmr.serving.observing.desk import Source as Source
from xlmr.serving.observing.desk import Statement as Statement
from xlmr.serving.observing.desk import Taken as Taken
from xlmr.serving.pool import Pool
from xlmr.serving.pool import Served as Served
from xlmr.serving.preparation import check_options
from xlmr.serving.question import Answered as Answered
from xlmr.serving.question import Outcome as Outcome
from xlmr.serving.question import Question as Question
from xlmr.serving.question import Timing as Timing
from xlmr.serving.question import placed, refuse_whole
from xlmr.serving.question import prediction_id as prediction_id
from xlmr.serving.recording import CLIENT_GONE, Life, Recorder
from xlmr.serving.routing.book import RouteBook
from xlmr.serving.routing.dealing import Dealer
from xlmr.serving.routing.shadows import Shadows
from xlmr.serving.routing.tally import Tally
from xlmr.serving.terms import Terms as Terms
from xlmr.serving.terms import read_terms as read_terms
from xlmr.serving.tokens import Detokenized as Detokenized
from xlmr.serving.tokens import DetokenizeOptions as DetokenizeOptions
from xlmr.serving.tokens import TokenizeOptions as TokenizeOptions
from xlmr.serving.tokens import Tokens as Tokens
from xlmr.serving.tokens import detokenize, tokenize
from xlmr.serving.urgency import LoopLag
from xlmr.serving.versions import ModelState as ModelState
from xlmr.serving.versions import Order as Order
from xlmr.telemetry.logs import RequestLog
from xlmr.telemetry.metrics import Metrics
from xlmr.telemetry.traces import Trace as Trace
from xlmr.telemetry.traces import Tracer
from xlmr.types import Caller, Language

if TYPE_CHECKING:
    from xlmr.serving.cache import AnswerCache, Found
    from xlmr.serving.observing.opening import Observing
    from xlmr.serving.quota import Quotas


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
        doorkeeper: Doorkeeper | None = None,
        tracer: Tracer | None = None,
        cache: AnswerCache | None = None,
        quotas: Quotas | None = None,
        observing: Observing | None = None,
        default_deadline_s: float = 0.0,
    ) -> None:
        self.pool = pool
        self.metrics = metrics
        self.limits = limits
        # Whoever follows a registry sets the routes and hands on what was counted.
        self.routes, self.tally = RouteBook(pool), Tally()
        pool.vitals.on_trial = self.routes.on_trial
        observer = None if observing is None else observing.observer
        self._desk = None if observing is None else observing.desk
        self.recorder = Recorder(metrics, log, tracer, observer)
        # For doors: a request's place among traces, and what is told of one that is no question.
        self.trace, self.refused = self.recorder.trace, self.recorder.refused
        self._doorkeeper = Doorkeeper() if doorkeeper is None else doorkeeper
        self._cache = cache
        self._quotas = quotas
        self._default_deadline_s = default_deadline_s
        self._lag = LoopLag()
        self._computing = Computing(identify, max_tokens=limits.max_tokens)
        self.shadows = Shadows(
            pool,
            self.tally,
            metrics=metrics,
            identify=identify,
            max_tokens=limits.max_tokens,
            on_disagree=None if observing is None else observing.disagreeing,
        )
        self._dealer = Dealer(
            pool, self.routes, self.tally, self.shadows, metrics=metrics, identify=identify
        )
        self._in_flight = 0
        self._retiring = False
        self._draining = False

    async def answer(self, question: Question) -> Answered:
        """The life of a request.

        Raises:
            InputError: the request, or every one of its texts, cannot be used.
            ModelNotFoundError: no such model.
            TaskError: the model cannot do this.
            OverloadedError: the answer would come after its deadline.
            QuotaError: the caller has used up what it may use.
            UnavailableError: the queue is full, or the server is going down.
            EngineError: the runtime failed.
        """
        question = self._timed(question)
        with self._living(question) as life:
            faults = self._admit(question)
            served = self._take(life, question.task)
            if self._quotas is not None:
                life.charge = self._quotas.open(question.caller, items=len(question.items))
            if life.dealt is None:
                found = await self._find(served, life, faults)
            else:
                served, found = await self._dealer.answers(life, faults, self._find)
            if life.charge is not None:
                await life.charge.take(0)
            outcomes = _outcomes(question, faults, found)
            life.answered = Answered(
                question.id, served.ref, outcomes, _tokens(outcomes), life.timing()
            )
            return life.answered

    async def tokenize(self, question: Question) -> Answered:
        """The same life where no model is run: texts to `Tokens`, or token ids to `Detokenized`.

        Raises:
            InputError: as `answer`.
            ModelNotFoundError: as `answer`.
            QuotaError: as `answer`; a request is charged, and no tokens.
            UnavailableError: as `answer`.
        """
        with self._living(question) as life:
            faults = self._admit(question)
            served = self._take(life, None)
            if self._quotas is not None:
                life.charge = self._quotas.open(question.caller, items=0)
                if life.charge is not None:
                    await life.charge.take(0)
            back = isinstance(question.options, DetokenizeOptions)
            work: Callable[..., list[Any]] = detokenize if back else tokenize
            bundle, options = served.predictor.bundle, question.options
            read = await self._computing.read(life, work, bundle, question.items, options, faults)
            refuse_whole(question, faults)
            languages = await self._computing.languages(
                ["" if one is None else one.text for one in read]
            )
            outcomes = tuple(
                Outcome(one, language) if fault is None else Outcome(error=placed(fault, question))
                for one, language, fault in zip(read, languages, faults, strict=True)
            )
            life.answered = Answered(question.id, served.ref, outcomes, 0, life.timing())
            return life.answered

    async def take_feedback(self, said: Sequence[Statement]) -> Taken:
        """Keeps what people and outcomes say of predictions; it is on disk when this returns.

        Raises:
            FeedbackOffError: this server keeps none.
            InputError: none of it can be used, or it is too much at once.
            FeedbackUnavailableError: the store cannot be written; nothing was kept.
            UnavailableError: too much is being written, or the server is going down.
        """
        if self._desk is None:
            raise FeedbackOffError("this server keeps no feedback", hint="start it with --feedback")
        if self._draining:
            raise _going_down()
        if not 0 < len(said) <= self.limits.max_items:
            most = self.limits.max_items
            raise TooManyError(f"{len(said)} statements; expected 1 to {most}")
        return await self._desk.keep(said)

    def _timed(self, question: Question) -> Question:
        """With the deadline that is its own or everyone's, less what it waited to be seen."""
        lag, deadline = self._lag.seconds(), question.deadline
        if deadline is None and self._default_deadline_s:
            deadline = time.monotonic() + self._default_deadline_s
        return question if deadline is None else question.replace(deadline=deadline - lag)

    def _take(self, life: Life, task: str | None) -> Served:
        """The model that answers; it stays until the question's life is over.

        Where no model is run, the live version: which tokens there are is no matter of chance.
        """
        dealt = None if task is None else self._dealer.deal(life.question)
        served = dealt.members[0] if dealt else self.pool.take(life.question.model, task)
        life.dealt, life.served = dealt, served
        return served

    async def caller(self, credential: str, role: str | None) -> Caller:
        """Who shows the credential, if they may do what needs the role; doors ask before all else.

        Raises:
            UnauthenticatedError: no credential, or a wrong one.
            ForbiddenError: their roles do not hold it.
            UnavailableError: the credential cannot be checked just now.
        """
        return await self._doorkeeper.caller(credential, role)

    def _living(self, question: Question) -> _Living:
        """Counts and logs what becomes of a question; errors name places in the caller's body."""
        self._in_flight += 1
        return _Living(self._over, Life.of(question))

    def _over(self, life: Life) -> None:
        self._in_flight -= 1
        self.recorder.over(life)
        if life.dealt is not None:
            self._dealer.over(life)
        elif life.served is not None:
            self.pool.give_back(life.served)

    @property
    def ready(self) -> bool:
        """Whether questions should be sent here."""
        return not self.unready()

    def unready(self) -> list[str]:
        """Why no questions should be sent here; nothing where they should."""
        going = ["the server is going down"] if self.leaving else []
        return going + self.pool.vitals.unready()

    @property
    def idle(self) -> bool:
        """Whether no question is being answered."""
        return self._in_flight == 0

    @property
    def leaving(self) -> bool:
        """Whether the server is on its way down."""
        return self._retiring or self._draining

    def retire(self) -> None:
        """Is ready no more, and still answers, until those who send questions have noticed."""
        self._retiring = True

    def drain(self) -> None:
        """Takes no further questions; those in flight are answered, and none read once more."""
        self._draining = True
        self.shadows.stop()

    def close(self) -> None:
        """Gives the text threads back. The pool belongs to whoever opened it."""
        self.shadows.close()
        self._computing.close()

    def _admit(self, question: Question) -> list[InputError | None]:
        if self._draining:
            raise _going_down()
        check_options(question.options, self.limits.max_chars)
        return admit(question.items, self.limits)

    async def _find(
        self, served: Served, life: Life, faults: list[InputError | None]
    ) -> Mapping[int, Found]:
        """The answer to each text that has one: from where it is known, else computed."""
        question = life.question
        refuse_whole(question, faults)
        places = [place for place, fault in enumerate(faults) if fault is None]

        async def compute(places: Sequence[int]) -> Mapping[int, Found]:
            self.shadows.give_way()
            return await self._computing.answers(served, life, faults, places)

        if self._cache is None:
            return await compute(places)
        asked = self._cache.asked(served, question, places)
        if asked is None:
            return await compute(places)
        return await self._cache.answer(asked, compute, self._computing.off_loop)


class _Living:
    """A life from its question to its end. `contextlib`'s own costs three times as much."""

    __slots__ = ("_life", "_over")

    def __init__(self, over: Callable[[Life], None], life: Life) -> None:
        self._over = over
        self._life = life

    def __enter__(self) -> Life:
        return self._life

    def __exit__(self, kind: object, fault: BaseException | None, trace: object) -> None:
        life = self._life
        if fault is None:
            life.code = "ok"
        elif isinstance(fault, XlmrError):
            life.error, life.code = fault, fault.code
            if life.charge is not None:
                life.charge.give_back()
        elif isinstance(fault, asyncio.CancelledError):
            life.code = CLIENT_GONE
        self._over(life)
        if isinstance(fault, InputError):
            raise placed(fault, life.question) from fault.__cause__


def _going_down() -> UnavailableError:
    return UnavailableError("the server is going down", retry_after_s=1.0, reason="draining")


def _outcomes(
    question: Question, faults: Sequence[InputError | None], found: Mapping[int, Found]
) -> tuple[Outcome, ...]:
    """What became of each text, in order."""
    return tuple(
        [
            Outcome(*found[place]) if fault is None else Outcome(error=placed(fault, question))
            for place, fault in enumerate(faults)
        ]
    )


def _tokens(outcomes: Sequence[Outcome]) -> int:
    return sum([o.answer.accounting.tokens for o in outcomes if o.answer is not None])
