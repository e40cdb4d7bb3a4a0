"""What is kept of a name is read back as it was written, and says when a look is worth a line."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.errors import DataError
from xlmr.registry.rollout.assignment import Ensemble, Weighted
from xlmr.registry.rollout.kept import (
    Look,
    Rollout,
    next_look,
    read_rollout,
    read_route,
    rollout_text,
    route_text,
)
from xlmr.registry.rollout.plan import make_plan
from xlmr.registry.rollout.state import start

STATE, _ = start("r", live="1", candidate="2", plan=make_plan({}), salt="s", now=5.0)
ROLLOUT = Rollout(
    state=STATE, counts="redis", evidence="e" * 64, override=True, look=Look("0 hold", 7.0, 6.0)
)


def test_a_rollout_is_read_as_it_was_written() -> None:
    assert read_rollout(rollout_text(ROLLOUT)) == ROLLOUT
    assert read_rollout(rollout_text(None)) is None


@pytest.mark.parametrize("route", [Weighted({"1": 0.5, "2": 2.0}, "s"), Ensemble({"1": 1, "2": 1})])
def test_a_route_holds_while_the_same_version_is_live(route: Weighted | Ensemble) -> None:
    text = route_text(route, "1")
    assert read_route(text, "1") == route
    assert read_route(text, "2") is None
    assert read_route(text, "") is None
    assert read_route(route_text(None, "1"), "1") is None


@pytest.mark.parametrize("text", ["{", "[]", '{"state": 3}', '{"counts": "x"}'])
def test_what_was_written_by_nobody_is_refused(text: str) -> None:
    with pytest.raises(DataError):
        read_rollout(text)


def test_an_edited_rollout_is_refused() -> None:
    told = json.loads(rollout_text(ROLLOUT))
    told["state"]["step"] = 9
    with pytest.raises(DataError, match="no stage 9"):
        read_rollout(json.dumps(told))


def test_what_is_new_is_said_at_once() -> None:
    assert next_look(None, "0 hold", 1.0) == Look("0 hold", 1.0, 1.0)
    assert next_look(Look("0 hold", 1.0, 1.0), "0 abort", 1.5) == Look("0 abort", 1.5, 1.5)


def test_what_is_said_again_is_said_ever_more_rarely() -> None:
    last: Look | None = None
    said = []
    for second in range(0, 4 * 3600):
        look = next_look(last, "0 hold", float(second))
        if look is not None:
            said.append(second)
            last = look
    assert said[:6] == [0, 60, 120, 240, 480, 960]
    assert max(b - a for a, b in itertools.pairwise(said)) == 3600


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 1e5))
def test_never_twice_within_a_minute(at: float, since: float, later: float) -> None:
    last = Look("0 hold", at, min(at, since))
    if later < 59.0:
        assert next_look(last, "0 hold", at + later) is None
    if later > 3601.0:
        assert next_look(last, "0 hold", at + later) is not None


def test_a_clock_that_went_back_does_not_silence_it() -> None:
    assert next_look(Look("0 hold", 5000.0, 0.0), "0 hold", 100.0) is not None
