"""The life of a rollout: shadow → steps → watching → done, or rolled back. Pure.

A state and what happened give the next state and what is to be done. Whoever carries it out first
stores the state under its revision (compare and set) together with its notes, and then acts: every
other action can be done twice, so that after a crash those of the stored state (`standing`) are
simply done again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from xlmr.errors import DataError, SettingsError
from xlmr.registry.rollout.assignment import Canary, Route, Shadow, Single
from xlmr.registry.rollout.burn import Burn
from xlmr.registry.rollout.plan import BASIS_POINTS, Plan, make_plan
from xlmr.registry.rollout.verdict import Verdict

Phase = Literal["running", "watching", "done", "rolled_back"]


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a rollout stands. Times are seconds since 1970.

    Attributes:
        name: of the model.
        live: version that answered before.
        candidate: version on its way.
        salt: deals the requests; of this rollout alone.
        plan: it was started with; it cannot change on the way.
        phase: `running` until 100 %, then `watching` until the window closes.
        step: index into `plan.stages`; stays at the last one after promotion.
        revision: grows by one with every change.
        started_at: when the rollout began.
        since: when the stage, or the phase, began.
        promoted: the candidate was made the live version.
        undecided: a person was asked, in this stage.
        sentence: why it is where it is.
    """

    name: str
    live: str
    candidate: str
    salt: str
    plan: Plan
    phase: Phase
    step: int
    revision: int
    started_at: float
    since: float
    promoted: bool = False
    undecided: bool = False
    sentence: str = ""

    @property
    def epoch(self) -> int:
        """Under which counts are kept: those of another stage are never added to them."""
        return self.step if self.phase == "running" else len(self.plan.stages)

    @property
    def over(self) -> bool:
        """Nothing can happen any more."""
        return self.phase in ("done", "rolled_back")

    @property
    def route(self) -> Route:
        """Who answers."""
        if self.phase in ("watching", "done"):
            return Single(self.candidate)
        if self.phase == "rolled_back":
            return Single(self.live)
        stage = self.plan.stages[self.step]
        kind = Shadow if stage.shadow else Canary
        share = round(stage.share * BASIS_POINTS)
        return kind(self.live, self.candidate, share, self.salt, self.plan.unit)

    def elapsed_s(self, now: float) -> float:
        """Of the stage or phase; 0 if the clock went back."""
        return max(0.0, now - self.since)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        return values | {"plan": self.plan.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, origin: str = "rollout") -> State:
        """The state that `to_json` gave.

        Raises:
            DataError: it is something else; names the place.
            SettingsError: its plan cannot be.
        """
        try:
            state = msgspec.convert(values, cls)
        except msgspec.ValidationError as fault:
            raise DataError(f"{origin}: {fault}", hint="it was not written by this tool") from None
        plan = make_plan(state.plan.to_json(), origin=origin)
        if not 0 <= state.step < len(plan.stages):
            raise DataError(f"{origin}: its plan has no stage {state.step}", hint="")
        return msgspec.structs.replace(state, plan=plan)


@dataclass(frozen=True, slots=True)
class SetRoute:
    """Requests of the name follow this route."""

    name: str
    route: Route


@dataclass(frozen=True, slots=True)
class StartCounting:
    """Counts are kept under this epoch of this rollout; those of another one stay apart."""

    salt: str
    epoch: int


@dataclass(frozen=True, slots=True)
class KeepWarm:
    """The version stays loaded although nothing is routed to it."""

    version: str


@dataclass(frozen=True, slots=True)
class LetGo:
    """The version need not stay loaded."""

    version: str


@dataclass(frozen=True, slots=True)
class SetLive:
    """The alias of the live version names this one, if it names `instead_of` until then."""

    name: str
    version: str
    instead_of: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A person is asked: the rollout is undecided."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Note:
    """A line of the journal."""

    event: str
    sentence: str
    evidence: Mapping[str, Any]


Action = SetRoute | StartCounting | KeepWarm | LetGo | SetLive | Ask | Note
Actions = tuple[Action, ...]


def start(
    name: str, *, live: str, candidate: str, plan: Plan, salt: str, now: float
) -> tuple[State, Actions]:
    """Begins a rollout.

    Args:
        name: of the model.
        live: version that answers now.
        candidate: version to be.
        plan: it follows.
        salt: unique to this rollout: its id in the journal, say.
        now: seconds since 1970.

    Raises:
        SettingsError: both versions are the same, or the salt is empty.
    """
    if live == candidate:
        raise SettingsError(f"{name}: {candidate} is live already", hint="nothing is to be done")
    if not salt:
        raise SettingsError("a rollout needs a salt", hint="its id will do")
    state = State(
        name=name,
        live=live,
        candidate=candidate,
        salt=salt,
        plan=plan,
        phase="running",
        step=0,
        revision=0,
        started_at=now,
        since=now,
        sentence=f"Started: {candidate} against {live}.",
    )
    note = Note("rollout.start", state.sentence, {"salt": salt, "plan": plan.to_json()})
    return state, (*standing(state), note)


def on_verdict(state: State, verdict: Verdict, now: float) -> tuple[State, Actions]:
    """What a verdict leads to; to nothing if it is about another stage than the present one."""
    if state.phase != "running" or verdict.step != state.step:
        return state, ()
    evidence = verdict.to_json()
    if verdict.outcome == "abort":
        return _back(state, verdict.sentence, now, "rollout.abort", evidence)
    if verdict.outcome == "advance":
        return _on(state, verdict.sentence, now, "rollout.advance", evidence)
    asked = verdict.outcome == "inconclusive"
    note = Note(f"rollout.{verdict.outcome}", verdict.sentence, evidence)
    if asked == state.undecided:
        return state, (note,)
    changed = _changed(state, undecided=asked, sentence=verdict.sentence)
    return changed, (note, Ask(verdict.sentence)) if asked else (note,)


def on_burn(state: State, burn: Burn, now: float) -> tuple[State, Actions]:
    """What the window after promotion leads to: back, done, or more of it.

    It closes once its time has passed and enough was seen; no data is no reason to let go.
    """
    if state.phase != "watching":
        return state, ()
    if burn.breached is not None:
        return _back(state, burn.sentence, now, "rollout.burned", burn.to_json())
    watch = state.plan.watch
    if state.elapsed_s(now) < watch.minutes * 60.0 or burn.units < watch.units:
        return state, ()
    said = f"Done: {state.candidate} answered {burn.units} {state.plan.unit}s since promotion."
    done = _changed(state, phase="done", since=now, sentence=said)
    return done, (*standing(done), Note("rollout.done", said, burn.to_json()))


def on_command(
    state: State, command: Literal["promote", "abort"], now: float, *, who: str, reason: str
) -> tuple[State, Actions]:
    """What a person decides: one stage on, whatever the verdict says, or back.

    Raises:
        SettingsError: no reason is given, or the rollout is past that.
    """
    if not reason.strip():
        raise SettingsError(f"{command}: a reason is needed", hint="it stands in the journal")
    if state.over or (command == "promote" and state.phase != "running"):
        raise SettingsError(
            f"{state.name}: the rollout of {state.candidate} is {state.phase.replace('_', ' ')}",
            hint="a version that is live goes back by a rollback",
        )
    evidence = {"who": who, "reason": reason, "by_hand": True}
    if command == "abort":
        return _back(state, f"Back: {who} says {reason}.", now, "rollout.abort", evidence)
    return _on(state, f"On: {who} says {reason}.", now, "rollout.advance", evidence)


def on_moved(state: State, live: str, now: float) -> tuple[State, Actions]:
    """Somebody made another version the live one by hand: the rollout is over, and they stand.

    Args:
        live: the version that is live now; empty for none.
    """
    said = f"Over: {live or 'nothing'} was made live by hand."
    promoted = live == state.candidate
    phase: Phase = "done" if promoted else "rolled_back"
    over = _changed(
        state, phase=phase, since=now, promoted=promoted, undecided=False, sentence=said
    )
    return over, (Note("rollout.over", said, {"live": live}),)


def standing(state: State) -> Actions:
    """Everything that must hold in this state; doing it again changes nothing."""
    route = SetRoute(state.name, state.route)
    counting = StartCounting(state.salt, state.epoch)
    if state.phase == "running":
        return KeepWarm(state.live), KeepWarm(state.candidate), counting, route
    if state.phase == "rolled_back":
        back = SetLive(state.name, state.live, instead_of=state.candidate)
        return (*((back,) if state.promoted else ()), route, LetGo(state.candidate))
    on = SetLive(state.name, state.candidate, instead_of=state.live)
    if state.phase == "watching":
        return KeepWarm(state.live), counting, on, route
    return on, route, LetGo(state.live)


def _on(
    state: State, sentence: str, now: float, event: str, evidence: Mapping[str, Any]
) -> tuple[State, Actions]:
    """The next stage, or promotion after the last one."""
    last = state.step + 1 == len(state.plan.stages)
    following = _changed(
        state,
        phase="watching" if last else "running",
        step=state.step if last else state.step + 1,
        since=now,
        promoted=last,
        undecided=False,
        sentence=sentence,
    )
    name = "rollout.promote" if last else event
    return following, (*standing(following), Note(name, sentence, evidence))


def _back(
    state: State, sentence: str, now: float, event: str, evidence: Mapping[str, Any]
) -> tuple[State, Actions]:
    back = _changed(state, phase="rolled_back", since=now, undecided=False, sentence=sentence)
    return back, (*standing(back), Note(event, sentence, evidence))


def _changed(state: State, **changes: Any) -> State:
    return msgspec.structs.replace(state, revision=state.revision + 1, **changes)
