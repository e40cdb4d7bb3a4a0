"""Carries a rollout on: a look reads and judges, and what follows is kept in one transaction.

Any number of servers may look at once, every second: what they judge is a pure function of the same
counts, one of them is first to keep it, and the others do nothing.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from xlmr.errors import (
    RegistryConflictError,
    RegistryError,
    RegistryUnavailableError,
    SettingsError,
    VersionNotFoundError,
)
from xlmr.registry.names import LIVE
from xlmr.registry.registry import Registry
from xlmr.registry.rollout.assignment import Ensemble, Weighted
from xlmr.registry.rollout.board import Board
from xlmr.registry.rollout.burn import Burn, burn
from xlmr.registry.rollout.counts import CountStore
from xlmr.registry.rollout.evidence import Evidence
from xlmr.registry.rollout.kept import Rollout, next_look
from xlmr.registry.rollout.plan import Plan
from xlmr.registry.rollout.routing import expected_live
from xlmr.registry.rollout.state import (
    Actions,
    Note,
    State,
    on_burn,
    on_command,
    on_moved,
    on_verdict,
    start,
)
from xlmr.registry.rollout.verdict import Verdict, judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a look found. Nothing is changed by it.

    Attributes:
        rollout: as it is kept.
        live: the version that is live; empty for none.
        evidence: counted in its stage, or in the last one it had.
        judged: None where nothing is left to judge.
        now: when, in seconds since 1970.
    """

    rollout: Rollout
    live: str
    evidence: Evidence
    judged: Verdict | Burn | None
    now: float


class Controller:
    """Starts rollouts, looks at them and ends them.

    Args:
        board: where they are kept.
        counts: where servers count.
        registry: whose versions they are; its actor acts.
        now: seconds since 1970.

    Attributes:
        board: where rollouts are kept.
        counts: where servers count.
        registry: whose versions they are.

    Every method raises RegistryUnavailableError where the database or the counts are away; nothing
    is half done then.
    """

    def __init__(
        self,
        board: Board,
        counts: CountStore,
        registry: Registry,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.board = board
        self.counts = counts
        self.registry = registry
        self._now = now

    def start(
        self,
        reference: str,
        plan: Plan,
        *,
        reason: str = "",
        report: Mapping[str, Any] | None = None,
        override: str = "",
        languages: Iterable[str] = (),
        objective_ms: float | None = None,
    ) -> State:
        """Begins to roll a version out against the one that is live.

        Whether it may go live is decided here: once the plan is fulfilled it does.

        Args:
            reference: as `Registry.resolve` takes it.
            plan: to follow; `languages` and `objective_ms` fill in what it leaves open.
            reason: why, for the journal.
            report: what `xlmr gate --out` wrote.
            override: why it may go live although no report allows it; stays in the journal.

        Raises:
            ForbiddenError: the actor may not promote.
            VersionNotFoundError: no such version.
            PromotionError: no report allows it.
            SignatureError: trusted keys are given, and none of them signed it.
            SettingsError: it is live already, or the plan does not say what is too slow.
            RegistryConflictError: as `Board.begin`.
        """
        self.registry.actor.must("promote")
        version = self.registry.resolve(reference)
        live = self.board.standing(version.name).live
        if not live:
            raise RegistryError(
                f"{version.name}: nothing is live to compare with",
                hint=f"`xlmr registry alias {version.name}@{version.version} live`",
            )
        plan = plan.completed(languages=languages, objective_ms=objective_ms)
        if plan.objective_ms is None and "over_objective" in plan.watched_harms:
            raise SettingsError(
                "the plan does not say how slow is too slow",
                hint="--objective-ms 250, or objective_ms in the plan",
            )
        state, actions = start(
            version.name,
            live=live,
            candidate=str(version.version),
            plan=plan,
            salt=secrets.token_hex(8),
            now=self._now(),
        )
        evidence = self.registry.clear(version, int(live), report=report, override=override)
        before = self.board.state(version.name)
        if before is not None and not before.over:
            # One that somebody went past by hand is over once somebody looks.
            before = self.look(version.name)
        # No start where nothing can be counted.
        self.counts.read(state.salt, state.epoch)
        rollout = Rollout(
            state=state, counts=self.counts.kind, evidence=evidence, override=bool(override)
        )
        self.board.begin(
            rollout, actions, actor=self.registry.actor.name, reason=override or reason
        )
        if before is not None:
            self._forget(before.salt, before=before.epoch + 1)
        return state

    def command(self, name: str, command: Literal["promote", "abort"], *, reason: str) -> State:
        """One stage on whatever the counts say, or back. Counts are not asked for.

        Raises:
            ForbiddenError: the actor may not promote.
            VersionNotFoundError: there is no rollout.
            SettingsError: no reason is given, or the rollout is past that.
            RegistryConflictError: somebody else changed it first.
        """
        actor = self.registry.actor
        actor.must("promote")
        state = self.board.state(name)
        if state is None:
            raise VersionNotFoundError(
                f"{name}: there is no rollout", hint="`xlmr rollout start` begins one"
            )
        following, actions = on_command(state, command, self._now(), who=actor.name, reason=reason)
        self.board.save(following, actions, expected=state, actor=actor.name)
        return following

    def set_route(
        self,
        name: str,
        route: Weighted | Ensemble | None,
        *,
        reason: str = "",
        report: Mapping[str, Any] | None = None,
        override: str = "",
    ) -> None:
        """Several versions answer, or the live one alone; none that was never allowed to.

        Args:
            name: of the model.
            route: A/B or ensemble; None for the live version.
            reason: why, for the journal.
            report: of a gate, on the version that never was live.
            override: why those may answer that no report allows; stays in the journal.

        Raises:
            ForbiddenError: the actor may not promote.
            VersionNotFoundError: no such version.
            PromotionError: a version never was live, and no report allows it.
            RegistryError: as `Board.set_route`.
        """
        actor = self.registry.actor
        actor.must("promote")
        live = self.board.standing(name).live
        entries = self.registry.catalogue.entries(name=name, alias=LIVE)
        once_live = {entry.version for entry in entries}
        evidence = ""
        for number in route.versions if route is not None else ():
            version = self.registry.resolve(f"{name}@{number}")
            if version.version not in once_live:
                evidence = self.registry.clear(
                    version, int(live or 0), report=report, override=override
                )
        self.board.set_route(
            name,
            route,
            reason=override or reason,
            actor=actor.name,
            evidence=evidence,
            override=bool(override),
        )

    def see(self, name: str) -> Seen | None:
        """Looks at a rollout, and does nothing; None where there never was one.

        Raises:
            SettingsError: it is counted elsewhere than here.
            DataError: counts that cannot be: some were lost.
        """
        kept = self.board.standing(name)
        if kept.rollout is None:
            return None
        state, now = kept.rollout.state, self._now()
        if kept.rollout.counts != self.counts.kind:
            raise SettingsError(
                f"{name}: this rollout is counted in the {kept.rollout.counts}, and here is the "
                f"{self.counts.kind}",
                hint="XLMR_REDIS_URL must be the same wherever it is followed",
            )
        epoch = len(state.plan.stages) if state.promoted else state.step
        evidence = self.counts.read(state.salt, epoch)
        judged: Verdict | Burn | None = None
        if not state.over and kept.live == expected_live(state):
            judged = self._judge(state, evidence, now)
        return Seen(rollout=kept.rollout, live=kept.live, evidence=evidence, judged=judged, now=now)

    def look(self, name: str) -> State | None:
        """Looks at a rollout and does what follows; the state afterwards.

        Raises:
            SettingsError, DataError: as `see`.
        """
        seen = self.see(name)
        return None if seen is None else self.act(seen)

    def act(self, seen: Seen) -> State:
        """Does what follows from a look, unless somebody else did; the state afterwards.

        A look that changes something, or says something new, goes into the journal. One that says
        the same does so after a minute, then at distances that double, hourly in the end.
        """
        rollout, actor = seen.rollout, self.registry.actor.name
        state = rollout.state
        if state.over:
            return state
        following, actions, said = _following(seen)
        look = next_look(rollout.look, said, seen.now)
        try:
            if following.revision != state.revision:
                self.board.save(following, actions, expected=state, actor=actor, look=look)
            elif look is not None:
                self.board.keep_look(state, actions, said=said, now=seen.now, actor=actor)
        except RegistryConflictError:
            return self.board.state(state.name) or state
        if following.epoch != state.epoch and not following.over:
            self._forget(state.salt, before=following.epoch)
        return following

    def _judge(self, state: State, evidence: Evidence, now: float) -> Verdict | Burn:
        if state.phase == "running":
            return judge(evidence, state.plan, state.step, state.elapsed_s(now))
        windows = self.counts.windows(state.salt, state.epoch, now)
        # Nothing of before the promotion is counted under this epoch, whatever it was called then.
        units = sum(found.units for arm in evidence.arms.values() for found in arm.values())
        return burn(windows, state.plan.watch, units=units)

    def _forget(self, salt: str, *, before: int) -> None:
        # What is left is in nobody's way, and the next stage removes it as well.
        with contextlib.suppress(RegistryUnavailableError):
            self.counts.forget(salt, before=before)


def _following(seen: Seen) -> tuple[State, Actions, str]:
    """The next state, what it goes with, and what tells this look from another in a few words."""
    state, judged = seen.rollout.state, seen.judged
    if isinstance(judged, Verdict):
        first = judged.reasons[0] if judged.reasons else None
        said = f"{judged.outcome} {first.test} {first.language}" if first else judged.outcome
        return (*on_verdict(state, judged, seen.now), f"{judged.step} {said}")
    if isinstance(judged, Burn):
        following, actions = on_burn(state, judged, seen.now)
        watching = (Note("rollout.watch", judged.sentence, judged.to_json()),)
        return following, actions or watching, "watch"
    return (*on_moved(state, seen.live, seen.now), "over")
