from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.errors import DataError, SettingsError, XlmrError
from xlmr.registry.rollout.assignment import Canary, Shadow, Single
from xlmr.registry.rollout.burn import WINDOWS, Burn, Window, burn
from xlmr.registry.rollout.plan import make_plan
from xlmr.registry.rollout.state import (
    Actions,
    Ask,
    KeepWarm,
    LetGo,
    Note,
    SetLive,
    SetRoute,
    StartCounting,
    State,
    on_burn,
    on_command,
    on_verdict,
    standing,
    start,
)
from xlmr.registry.rollout.verdict import Outcome, Verdict

PLAN = make_plan({"objective_ms": 100.0})
DAY = 86_400.0


def begun(**plan: Any) -> State:
    made = make_plan(PLAN.to_json() | plan)
    return start("router", live="v1", candidate="v2", plan=made, salt="r-7", now=100.0)[0]


def said(outcome: Outcome, step: int) -> Verdict:
    return Verdict(
        outcome=outcome,
        step=step,
        sentence=f"{outcome}.",
        reasons=(),
        findings=(),
        elapsed_s=1.0,
        units=1,
    )


def calm(units: int = 5000) -> Burn:
    return burn(dict.fromkeys(WINDOWS, Window(1000, 0)), PLAN.watch, units=units)


def burning() -> Burn:
    return burn(dict.fromkeys(WINDOWS, Window(1000, 500)), PLAN.watch, units=1000)


def promoted() -> State:
    state = begun()
    for step in range(5):
        state, _ = on_verdict(state, said("advance", step), 200.0 + step)
    return state


def notes(actions: Actions) -> list[str]:
    return [action.event for action in actions if isinstance(action, Note)]


def test_it_begins_in_the_shadow_with_both_versions_warm() -> None:
    state, actions = start("router", live="v1", candidate="v2", plan=PLAN, salt="r-7", now=100.0)
    assert state.route == Shadow("v1", "v2", 1000, "r-7")
    assert KeepWarm("v1") in actions
    assert KeepWarm("v2") in actions
    assert StartCounting("r-7", 0) in actions
    assert SetRoute("router", state.route) in actions
    assert notes(actions) == ["rollout.start"]
    assert not any(isinstance(action, SetLive) for action in actions)


def test_the_way_to_done() -> None:
    state = begun()
    shares = []
    for step in range(5):
        assert state.epoch == step
        state, actions = on_verdict(state, said("advance", step), 200.0 + step)
        assert SetRoute("router", state.route) in actions
        assert state.since == 200.0 + step
        if isinstance(state.route, Canary):
            shares.append(state.route.share)
            assert StartCounting("r-7", step + 1) in actions
            assert notes(actions) == ["rollout.advance"]
    assert shares == [100, 500, 2500, 5000]
    assert state.phase == "watching"
    assert state.route == Single("v2")
    assert notes(actions) == ["rollout.promote"]
    assert SetLive("router", "v2", instead_of="v1") in actions
    assert KeepWarm("v1") in actions
    assert StartCounting("r-7", 5) in actions
    same, nothing = on_burn(state, calm(), 204.0 + DAY - 1.0)
    assert (same, nothing) == (state, ())
    state, actions = on_burn(state, calm(), 204.0 + DAY)
    assert state.phase == "done"
    assert LetGo("v1") in actions
    assert notes(actions) == ["rollout.done"]


def test_the_old_version_stays_until_enough_was_seen() -> None:
    state = promoted()
    assert on_burn(state, calm(units=99), 1e9)[0].phase == "watching"
    assert on_burn(state, calm(units=100), 1e9)[0].phase == "done"


@pytest.mark.parametrize("step", range(5))
def test_an_abort_goes_back_and_leaves_the_alias_alone(step: int) -> None:
    state = begun()
    for number in range(step):
        state, _ = on_verdict(state, said("advance", number), 150.0)
    back, actions = on_verdict(state, said("abort", step), 300.0)
    assert back.phase == "rolled_back"
    assert back.route == Single("v1")
    assert LetGo("v2") in actions
    assert notes(actions) == ["rollout.abort"]
    assert not any(isinstance(action, SetLive) for action in actions)


def test_a_burning_version_goes_back_by_itself() -> None:
    back, actions = on_burn(promoted(), burning(), 300.0)
    assert back.phase == "rolled_back"
    assert back.route == Single("v1")
    assert SetLive("router", "v1", instead_of="v2") in actions
    assert LetGo("v2") in actions
    assert notes(actions) == ["rollout.burned"]
    assert back.sentence.startswith("Back: ")


def test_holding_changes_nothing_but_every_look_is_noted() -> None:
    state = begun()
    same, actions = on_verdict(state, said("hold", 0), 200.0)
    assert same is state
    assert notes(actions) == ["rollout.hold"]


def test_a_person_is_asked_once_in_a_stage() -> None:
    state = begun()
    asked, actions = on_verdict(state, said("inconclusive", 0), 200.0)
    assert Ask("inconclusive.") in actions
    assert asked.undecided
    again, actions = on_verdict(asked, said("inconclusive", 0), 260.0)
    assert again is asked
    assert notes(actions) == ["rollout.inconclusive"]
    assert not any(isinstance(action, Ask) for action in actions)
    on, _ = on_verdict(asked, said("advance", 0), 300.0)
    assert (on.step, on.undecided) == (1, False)


def test_a_verdict_about_another_stage_is_nothing() -> None:
    state, _ = on_verdict(begun(), said("advance", 0), 200.0)
    for outcome in ("abort", "advance", "hold", "inconclusive"):
        assert on_verdict(state, said(outcome, 0), 201.0) == (state, ())
        assert on_verdict(state, said(outcome, 2), 201.0) == (state, ())
        assert on_verdict(promoted(), said(outcome, 4), 201.0) == (promoted(), ())
    assert on_burn(state, burning(), 201.0) == (state, ())


def test_a_person_may_go_on_or_back_and_says_why() -> None:
    state, actions = on_command(begun(), "promote", 200.0, who="ana", reason="it is known")
    assert state.step == 1
    note = next(action for action in actions if isinstance(action, Note))
    assert note.evidence == {"who": "ana", "reason": "it is known", "by_hand": True}
    back, _ = on_command(state, "abort", 200.0, who="ana", reason="a complaint")
    assert back.phase == "rolled_back"
    late, actions = on_command(promoted(), "abort", 300.0, who="ana", reason="a complaint")
    assert late.phase == "rolled_back"
    assert SetLive("router", "v1", instead_of="v2") in actions
    for command, where in (("promote", promoted()), ("promote", back), ("abort", back)):
        with pytest.raises(SettingsError, match="v2 is"):
            on_command(where, command, 400.0, who="ana", reason="why not")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="reason"):
        on_command(begun(), "abort", 200.0, who="ana", reason="  ")


def test_what_cannot_begin_is_refused() -> None:
    with pytest.raises(SettingsError, match="live already"):
        start("router", live="v1", candidate="v1", plan=PLAN, salt="s", now=0.0)
    with pytest.raises(SettingsError, match="salt"):
        start("router", live="v1", candidate="v2", plan=PLAN, salt="", now=0.0)


def test_a_clock_that_goes_back_makes_nothing_older() -> None:
    assert begun().elapsed_s(50.0) == 0.0
    assert begun().elapsed_s(160.0) == 60.0


EVENTS = st.lists(
    st.one_of(
        st.sampled_from(["advance", "hold", "abort", "inconclusive"]),
        st.sampled_from(["calm", "burning", "promote by hand", "abort by hand"]),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(EVENTS)
def test_whatever_happens_it_stays_whole(events: list[str]) -> None:
    """Any sequence: over stays over, revisions count changes, and the route fits the phase."""
    state, now = begun(), 200.0
    for event in events:
        now += DAY
        following, actions = happen(state, event, now)
        assert following.revision == state.revision + (following != state)
        if state.over:
            assert following == state
        if following.route != state.route:
            assert all(action in actions for action in standing(following))
        assert (following.phase == "rolled_back") <= (following.route == Single("v1"))
        assert (following.phase in ("watching", "done")) == (following.route == Single("v2"))
        assert State.from_json(json.loads(json.dumps(following.to_json()))) == following
        state = following


def happen(state: State, event: str, now: float) -> tuple[State, Actions]:
    if event in ("calm", "burning"):
        return on_burn(state, calm() if event == "calm" else burning(), now)
    if event.endswith(" by hand"):
        command: Literal["promote", "abort"] = "promote" if event[0] == "p" else "abort"
        try:
            return on_command(state, command, now, who="ana", reason="why not")
        except SettingsError:
            return state, ()
    return on_verdict(state, said(event, state.step), now)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"phase": "lost"}, "phase"),
        ({"step": 5}, "no stage 5"),
        ({"step": -1}, "no stage -1"),
        ({"more": 1}, "more"),
        ({"plan": {"steps": []}}, "steps"),
    ],
)
def test_a_state_that_cannot_be_is_refused(change: dict[str, Any], place: str) -> None:
    with pytest.raises(XlmrError, match=place) as caught:
        State.from_json(begun().to_json() | change, origin="rollout r-7")
    assert isinstance(caught.value, DataError | SettingsError)
    assert caught.value.message.startswith("rollout r-7: ")
