"""What servers follow, derived from what is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from xlmr.errors import DataError
from xlmr.registry.rollout.assignment import Canary, Ensemble, Route, Shadow, Single, Weighted
from xlmr.registry.rollout.plan import make_plan
from xlmr.registry.rollout.routing import Counting, Routing, derive, route_from_json, route_to_json
from xlmr.registry.rollout.state import State, on_command, on_moved, start

PLAN = make_plan({"objective_ms": 90.0, "shadow": {"capacity": 0.3}, "confidence": {"below": 0.4}})
DIGESTS = {"1": "a", "2": "b", "3": "c"}
SPLIT = Weighted({"1": 1.0, "3": 2.0}, "x")


def after(promotions: int) -> State:
    state, _ = start("router", live="1", candidate="2", plan=PLAN, salt="s", now=0.0)
    for _ in range(promotions):
        state, _ = on_command(state, "promote", 1.0, who="ada", reason="why")
    return state


def routing(live: str, state: State | None, route: Any = None) -> Routing:
    return derive(
        "router",
        aliases={"live": live, "old": "1"},
        digests=DIGESTS,
        revision=7,
        state=state,
        route=route,
    )


def test_without_a_rollout_the_live_version_answers() -> None:
    assert routing("1", None) == Routing(
        name="router",
        aliases={"live": "1", "old": "1"},
        route=Single("1"),
        digests={"1": "a"},
        revision=7,
    )
    assert routing("1", None).live == "1"


def test_a_route_that_was_set() -> None:
    set_by_hand = routing("1", None, SPLIT)
    assert set_by_hand.route == SPLIT
    assert set_by_hand.digests == {"1": "a", "3": "c"}
    assert set_by_hand.counting is None


def test_a_rollout_from_the_shadow_to_the_end() -> None:
    shadow = routing("1", after(0))
    assert shadow.route == Shadow("1", "2", 1000, "s")
    assert shadow.counting == Counting(
        salt="s",
        epoch=0,
        objective_ms=90.0,
        low_confidence_below=0.4,
        unit="request",
        shadow_capacity=0.3,
    )
    assert (shadow.warm, shadow.digests) == ((), {"1": "a", "2": "b"})
    assert routing("1", after(1)).route == Canary("1", "2", 100, "s")
    watching = routing("2", after(5))
    assert (watching.route, watching.warm) == (Single("2"), ("1",))
    assert watching.counting is not None
    assert watching.counting.epoch == 5
    assert watching.digests == {"1": "a", "2": "b"}


@pytest.mark.parametrize(("live", "promotions"), [("3", 0), ("2", 2), ("1", 5), ("3", 5)])
def test_whoever_moves_the_alias_goes_past_it(live: str, promotions: int) -> None:
    passed = routing(live, after(promotions))
    assert (passed.route, passed.warm, passed.counting) == (Single(live), (), None)
    over, _ = on_moved(after(promotions), live, 9.0)
    assert over.over
    assert over.phase == ("done" if live == "2" else "rolled_back")
    assert routing(live, over) == passed


def test_an_aborted_one_leaves_nothing() -> None:
    back, _ = on_command(after(2), "abort", 3.0, who="ada", reason="why")
    assert routing("1", back) == routing("1", None)


def test_a_version_that_nobody_knows_is_refused() -> None:
    with pytest.raises(DataError):
        routing("9", None)


@pytest.mark.parametrize(
    "route",
    [
        Single("1"),
        Canary("1", "2", 100, "s", "caller"),
        Shadow("1", "2", 100, "s"),
        SPLIT,
        Ensemble({"1": 1.0, "2": 3.0}),
    ],
)
def test_it_survives_a_file(route: Route) -> None:
    assert route_from_json(json.loads(json.dumps(route_to_json(route)))) == route
    whole = derive(
        "router", aliases={"live": "1"}, digests=DIGESTS, revision=1, state=after(0), route=None
    )
    assert Routing.from_json(json.loads(json.dumps(whole.to_json()))) == whole


@pytest.mark.parametrize("values", [{}, {"kind": "x"}, {"kind": "single"}, {"kind": "canary"}])
def test_a_file_of_something_else_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        route_from_json(values)
    with pytest.raises(DataError):
        Routing.from_json(values)
