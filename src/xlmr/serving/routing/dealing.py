"""Follows a route: which version answers a request, what happens where it cannot, what is counted.

A route never costs a caller an answer. A version that is not loaded here, or cannot do the task,
leaves its requests to the live one; so does a candidate that fails, whose failure is counted.
Nothing is counted of a name while any version of its route is missing here: only one side would be.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xlmr.errors import EngineError, ModelNotFoundError, QuotaError, TaskError, UnavailableError
from xlmr.registry.rollout.assignment import Canary, Ensemble, Shadow, assign
from xlmr.registry.rollout.evidence import CANDIDATE, LIVE
from xlmr.serving.question import refuse_whole
from xlmr.serving.recording import Life
from xlmr.serving.routing.ensemble import averaged, whole_options
from xlmr.serving.routing.seen import fault_events, seen_of
from xlmr.serving.routing.shadows import Copy, Shadows, work_s
from xlmr.types import ModelRef

if TYPE_CHECKING:
    from xlmr.errors import InputError, XlmrError
    from xlmr.serving.cache import Found
    from xlmr.serving.pool import Pool, Served
    from xlmr.serving.question import Question
    from xlmr.serving.routing.book import Page, RouteBook
    from xlmr.serving.routing.seen import Identify
    from xlmr.serving.routing.tally import Tally
    from xlmr.telemetry.metrics import Metrics

    # The answer of one version to each text that has one; faults of texts are written.
    Find = Callable[[Served, Life, list[InputError | None]], Awaitable[Mapping[int, Found]]]


@dataclass(slots=True)
class Dealt:
    """What a route gave a request to.

    Attributes:
        arm: under which it is counted.
        members: versions that answer, each taken from the pool; several only in an ensemble.
        shadow: what the version that reads it besides is called in the pool; empty for none.
        counted: whether what becomes of it is still to be counted.
        weights: of an ensemble's members, by version; else None.
    """

    page: Page
    arm: str
    members: list[Served]
    shadow: str
    counted: bool
    weights: Mapping[str, float] | None = None


class Dealer:
    """Deals requests to versions as a book of routes says."""

    def __init__(
        self,
        pool: Pool,
        book: RouteBook,
        tally: Tally,
        shadows: Shadows,
        *,
        metrics: Metrics,
        identify: Identify,
    ) -> None:
        self._pool = pool
        self._book = book
        self._tally = tally
        self._shadows = shadows
        self._metrics = metrics
        self._identify = identify

    def deal(self, question: Question) -> Dealt | None:
        """Takes the versions that answer; None where the live one does and nothing is counted.

        Raises:
            XlmrError: as `Pool.take`, if not even the live version can answer.
        """
        page = self._book.get(question.model, question.task)
        if page is None or (page.alone and self._is_live(page)):
            return None
        given = assign(page.route, caller=question.caller.name, request_id=question.id)
        members = [
            served
            for served in (self._take(page, version, question.task) for version in given.answers)
            if served is not None
        ]
        missing = len(given.answers) - len(members)
        if not members:
            self._metrics.route_fallback("not_loaded")
            return Dealt(page, LIVE, [self._take_live(page, question.task)], "", counted=False)
        for _ in range(missing):
            self._metrics.route_fallback("ensemble")
        shadow = page.places[given.shadows[0]] if given.shadows else ""
        counted = page.counting is not None and self._complete(page, question.task)
        weights = page.route.weights if isinstance(page.route, Ensemble) else None
        return Dealt(page, given.arm, members, shadow, counted, weights)

    async def answers(
        self, life: Life, faults: list[InputError | None], find: Find
    ) -> tuple[Served, Mapping[int, Found]]:
        """What answered, and its answers as `find` gives them; those of several versions averaged.

        Raises:
            XlmrError: as `find`.
            TaskError: an ensemble was asked for what cannot be averaged.
        """
        dealt = life.dealt
        assert dealt is not None
        if dealt.weights is not None:
            life.served, found = await self._averaged(life, dealt, dealt.weights, faults, find)
            return life.served, found
        served, before = dealt.members[0], list(faults)
        try:
            return served, await find(served, life, faults)
        except EngineError as fault:
            if dealt.arm != CANDIDATE:
                raise
            life.served = served = self._rescue(life, dealt, fault)
            faults[:] = before
        return served, await find(served, life, faults)

    def over(self, life: Life) -> None:
        """Gives the versions back, and counts what is to be counted."""
        dealt = life.dealt
        assert dealt is not None
        for served in dealt.members:
            self._pool.give_back(served)
        self._metrics.routed(dealt.page.name, dealt.arm)
        self._count(life, dealt, life.code, life.error)

    def _is_live(self, page: Page) -> bool:
        served = self._pool.models.get(page.name)
        return served is not None and served.ref.version == page.alone

    def _take(self, page: Page, version: str, task: str) -> Served | None:
        try:
            return self._pool.take(page.places[version], task)
        except (ModelNotFoundError, TaskError, UnavailableError):
            return None

    def _take_live(self, page: Page, task: str) -> Served:
        served = None
        if isinstance(page.route, Canary | Shadow):
            served = self._take(page, page.route.live, task)
        return self._pool.take(page.name, task) if served is None else served

    def _complete(self, page: Page, task: str) -> bool:
        """Whether every version of the route could have answered."""
        loaded = self._pool.versions.get(page.name, {})
        for version in page.places:
            served = loaded.get(version)
            if served is None or task not in served.tasks:
                return False
        return True

    def _rescue(self, life: Life, dealt: Dealt, fault: EngineError) -> Served:
        """The live version in the place of a candidate that failed, which is counted at once."""
        self._count(life, dealt, fault.code, fault)
        dealt.counted = False
        self._metrics.route_fallback("fault")
        live = self._take_live(dealt.page, life.question.task)
        dealt.members.append(live)
        return live

    def _count(self, life: Life, dealt: Dealt, code: str, error: XlmrError | None) -> None:
        counting, question = dealt.page.counting, life.question
        events = fault_events(code, error)
        if not dealt.counted or counting is None or events is None:
            return
        dealt.counted = False
        outcomes = () if life.answered is None else life.answered.outcomes
        if isinstance(dealt.page.route, Shadow):
            if dealt.shadow:
                seconds = work_s(life) if _computed_whole(life) else None
                copy = Copy(question, dealt.shadow, counting, outcomes, events, seconds)
                self._shadows.offer(copy)
            return
        seen = seen_of(
            question,
            outcomes,
            events,
            counting=counting,
            seconds=time.perf_counter() - life.arrived,
            identify=self._identify,
        )
        self._tally.count(counting, dealt.arm, seen, caller=question.caller.name)

    async def _averaged(
        self,
        life: Life,
        dealt: Dealt,
        shares: Mapping[str, float],
        faults: list[InputError | None],
        find: Find,
    ) -> tuple[Served, Mapping[int, Found]]:
        """All versions at once; who fails is left out, and a text that one refuses is refused."""
        question = life.question
        options, top = whole_options(dealt.page.name, question.task, question.options)
        asked = question.replace(options=options)
        lives = [Life(asked, life.arrived, charge=life.charge) for _ in dealt.members]
        refused = [list(faults) for _ in dealt.members]
        results = await asyncio.gather(
            *map(find, dealt.members, lives, refused), return_exceptions=True
        )
        answering = self._those_that_answered(results)
        for place, of_all in enumerate(zip(*refused, strict=True)):
            faults[place] = next((fault for fault in of_all if fault is not None), None)
        refuse_whole(question, faults)
        _merge(life, [lives[n] for n in answering])
        members = [dealt.members[n] for n in answering]
        weights = [shares[served.ref.version] for served in members]
        found: dict[int, Found] = {}
        for place, fault in enumerate(faults):
            if fault is None:
                said = [answering[n][place] for n in answering]
                answer = averaged([one for one, _ in said], weights, top=top)
                found[place] = (answer, said[0][1])
        return replace(members[0], ref=_ref_of(members, weights)), found

    def _those_that_answered(
        self, results: Sequence[Mapping[int, Found] | BaseException]
    ) -> dict[int, Mapping[int, Found]]:
        """What the members of an ensemble found, by their number; at least one.

        Raises:
            XlmrError: what the first failed with, if all did; or the caller's own fault.
        """
        answering: dict[int, Mapping[int, Found]] = {}
        failed: list[BaseException] = []
        for number, result in enumerate(results):
            if not isinstance(result, BaseException):
                answering[number] = result
            elif isinstance(result, QuotaError) or not isinstance(
                result, EngineError | UnavailableError
            ):
                raise result
            else:
                failed.append(result)
        if not answering:
            raise failed[0]
        for _ in failed:
            self._metrics.route_fallback("ensemble")
        return answering


def _merge(life: Life, lives: list[Life]) -> None:
    """The request took as long as the slowest version, and computed for all."""
    life.worked_tokens += sum(own.worked_tokens for own in lives)
    slowest = max(lives, key=lambda own: own.stages[-1].ended if own.stages else 0.0)
    for stage in slowest.stages:
        life.stage(stage.name, stage.started, stage.ended)


def _ref_of(members: list[Served], weights: list[float]) -> ModelRef:
    """What answered: `2+3`, with a digest over what each is and weighs."""
    if len(members) == 1:
        return members[0].ref
    told = "\n".join(
        f"{served.ref.digest} {weight!r}" for served, weight in zip(members, weights, strict=True)
    )
    version = "+".join(served.ref.version for served in members)
    return ModelRef(members[0].ref.name, hashlib.sha256(told.encode()).hexdigest(), version)


def _computed_whole(life: Life) -> bool:
    """Whether no text's answer was known before: what is only looked up is no measure of speed."""
    return life.answered is None or life.worked_tokens >= life.answered.tokens
