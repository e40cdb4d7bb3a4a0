"""Rollouts and routes are kept whole, with their lines, and whoever is second changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sql
from tests.registry.rollout.parts import catalogue_with_versions, move_live

from xlmr.errors import DataError, RegistryConflictError, RegistryError
from xlmr.registry.catalogue import Catalogue
from xlmr.registry.journal import Entry, trail
from xlmr.registry.retention import removable
from xlmr.registry.rollout.assignment import Canary, Ensemble, Shadow, Single, Weighted
from xlmr.registry.rollout.board import Board
from xlmr.registry.rollout.kept import Rollout
from xlmr.registry.rollout.plan import make_plan
from xlmr.registry.rollout.state import Note, State, on_command, start
from xlmr.registry.tables import BOARD

SPLIT = Weighted({"1": 1.0, "3": 1.0}, "x")


@pytest.fixture
def catalogue(database: str) -> Iterator[Catalogue]:
    opened = catalogue_with_versions(database)
    yield opened
    opened.close()


@pytest.fixture
def board(catalogue: Catalogue) -> Board:
    return Board(catalogue)


def begin(board: Board, *, candidate: str = "2", live: str = "1", salt: str = "s-1") -> State:
    plan = make_plan({"objective_ms": 100.0})
    state, actions = start(
        "router", live=live, candidate=candidate, plan=plan, salt=salt, now=100.0
    )
    rollout = Rollout(state=state, counts="database", evidence="e" * 64, override=True)
    board.begin(rollout, actions, actor="ada", reason="no data yet")
    return state


def forward(board: Board, state: State, *, steps: int = 1) -> State:
    for _ in range(steps):
        following, actions = on_command(state, "promote", 200.0, who="ada", reason="why not")
        board.save(following, actions, expected=state, actor="ada")
        state = following
    return state


def back(board: Board, state: State) -> State:
    following, actions = on_command(state, "abort", 300.0, who="ada", reason="slow")
    board.save(following, actions, expected=state, actor="ada")
    return following


def lines(board: Board) -> list[Entry]:
    """Of the rollout; the whole journal is found to be sound."""
    board.catalogue.whole().check()
    return [e for e in board.catalogue.entries(name="router") if e.actor == "ada"][3:]


def test_a_rollout_from_its_start_to_the_live_version(board: Board) -> None:
    state = begin(board)
    assert board.state("router") == state
    assert board.states() == [state]
    routing = board.table(["router"])["router"]
    assert routing.route == Shadow("1", "2", 1000, "s-1")
    assert routing.aliases == {"live": "1"}
    assert routing.digests == {"1": f"{1:064d}", "2": f"{2:064d}"}
    state = forward(board, state)
    assert board.table(["router"])["router"].route == Canary("1", "2", 100, "s-1")
    state = forward(board, state, steps=4)
    promoted = board.table(["router"])["router"]
    assert (promoted.route, promoted.warm, promoted.live) == (Single("2"), ("1",), "2")
    assert [line.action for line in lines(board)] == [
        "rollout.start",
        *["rollout.advance"] * 4,
        "rollout.promote",
        "alias",
    ]
    first, last = lines(board)[0], lines(board)[-1]
    assert (first.version, first.previous, first.digest) == (2, 1, f"{2:064d}")
    assert (first.evidence, first.override, first.reason) == ("e" * 64, True, "no data yet")
    assert json.loads(first.detail)["salt"] == "s-1"
    assert (last.alias, last.version, last.previous) == ("live", 2, 1)
    # What let it start is what lets it go live.
    assert (last.evidence, last.override) == ("e" * 64, True)
    state = back(board, state)
    assert board.table(["router"])["router"].route == Single("1")
    assert lines(board)[-1].action == "rollback"
    assert trail(board.catalogue.entries(name="router", alias="live")) == [1]


def test_the_revision_grows_with_every_change_and_with_nothing_else(board: Board) -> None:
    seen = [board.table(["router"])["router"].revision]

    def grown() -> bool:
        seen.append(board.table(["router"])["router"].revision)
        return seen[-1] > seen[-2]

    state = begin(board)
    assert grown()
    said = Note("rollout.hold", "Wait.", {})
    assert board.keep_look(state, (said,), said="hold", now=1.0, actor="ada")
    assert not grown()
    forward(board, state)
    assert grown()
    move_live(board.catalogue, 3)
    assert grown()
    with board.catalogue.change() as change:
        change.set_alias("router", "old", 1, expected=0)
    assert grown()
    with board.catalogue.change() as change:
        change.drop_alias("router", "old")
    assert grown()


def test_names_that_nothing_answers_are_left_out(board: Board) -> None:
    assert board.table([]) == {}
    assert board.table(["other"]) == {}
    assert board.standing("other").rollout is None
    with board.catalogue.change() as change:
        change.drop_alias("router", "live")
    assert board.table(["router"]) == {}


def test_whoever_is_second_changes_nothing(board: Board) -> None:
    state = begin(board)
    following, actions = on_command(state, "promote", 2.0, who="ada", reason="why")
    other, others = on_command(state, "abort", 2.0, who="eve", reason="why")
    board.save(following, actions, expected=state, actor="ada")
    before = lines(board)
    with pytest.raises(RegistryConflictError, match="changed the rollout first"):
        board.save(other, others, expected=state, actor="eve")
    with pytest.raises(RegistryConflictError, match="changed the rollout first"):
        board.keep_look(state, (), said="hold", now=1.0, actor="eve")
    assert board.state("router") == following
    assert lines(board) == before


def test_another_rollout_of_the_same_revision_is_another_one(board: Board) -> None:
    first = begin(board)
    back(board, first)
    begin(board, salt="s-2")
    following, actions = on_command(first, "promote", 2.0, who="ada", reason="why")
    with pytest.raises(RegistryConflictError):
        board.save(following, actions, expected=first, actor="ada")


def test_one_rollout_at_a_time(board: Board) -> None:
    state = begin(board)
    with pytest.raises(RegistryConflictError, match="the rollout of 2 is running"):
        begin(board, candidate="3")
    with pytest.raises(RegistryConflictError, match="2 is running"):
        board.set_route("router", SPLIT, reason="", actor="ada")
    state = forward(board, state, steps=5)
    with pytest.raises(RegistryConflictError, match="2 is watching"):
        begin(board, live="2", candidate="3")
    back(board, state)
    begin(board, candidate="3", salt="s-2")


def test_it_starts_against_what_is_live_and_with_what_is_there(board: Board) -> None:
    with pytest.raises(RegistryConflictError, match="live is version 1 by now, not 3"):
        begin(board, live="3")
    with pytest.raises(RegistryError, match="router@9"):
        begin(board, candidate="9")
    assert board.state("router") is None
    assert lines(board) == []


def test_a_promotion_past_somebody_who_moved_the_alias_is_refused(board: Board) -> None:
    state = forward(board, begin(board), steps=4)
    move_live(board.catalogue, 3)
    with pytest.raises(RegistryConflictError, match="by now, not 1"):
        forward(board, state)
    assert board.state("router") == state
    assert board.table(["router"])["router"].route == Single("3")
    # Back is where somebody brought it, not where it came from.
    back(board, state)
    assert board.table(["router"])["router"].live == "3"


def test_a_way_back_does_not_undo_what_somebody_did_since(board: Board) -> None:
    state = forward(board, begin(board), steps=5)
    move_live(board.catalogue, 3)
    back(board, state)
    assert board.table(["router"])["router"].live == "3"
    assert [line.action for line in lines(board)[-2:]] == ["alias", "rollout.abort"]


def test_what_is_said_again_is_written_once(board: Board) -> None:
    state = begin(board)
    note = (Note("rollout.hold", "Wait.", {"e": 1}),)
    written = [
        board.keep_look(state, note, said="hold units", now=100.0 + second, actor="ada")
        for second in range(130)
    ]
    assert [second for second, wrote in enumerate(written) if wrote] == [0, 60, 120]
    assert board.keep_look(state, note, said="hold minutes", now=231.0, actor="ada")
    held = [line for line in lines(board) if line.action == "rollout.hold"]
    assert len(held) == 4
    assert (held[0].reason, json.loads(held[0].detail)) == ("Wait.", {"e": 1})


def test_a_split_and_an_ensemble_answer_until_another_version_is_live(board: Board) -> None:
    board.set_route("router", SPLIT, reason="which is better?", actor="ada")
    routing = board.table(["router"])["router"]
    assert routing.route == SPLIT
    assert sorted(routing.digests) == ["1", "3"]
    with pytest.raises(RegistryConflictError, match="1 and 3 answer together"):
        begin(board)
    both = Ensemble({"1": 1.0, "2": 1.0})
    board.set_route("router", both, reason="", actor="ada", override=True)
    assert board.table(["router"])["router"].route == both
    move_live(board.catalogue, 3)
    assert board.table(["router"])["router"].route == Single("3")
    begin(board, live="3")
    back(board, board.states()[0])
    board.set_route("router", both, reason="", actor="ada")
    board.set_route("router", None, reason="enough", actor="ada")
    assert board.table(["router"])["router"].route == Single("3")
    first = lines(board)[0]
    assert (first.action, first.reason) == ("route", "which is better?")
    assert json.loads(first.detail)["weights"] == {"1": 1.0, "3": 1.0}


def test_a_route_needs_versions_that_are_there(board: Board) -> None:
    with pytest.raises(RegistryError, match="router@7"):
        board.set_route("router", replace(SPLIT, weights={"7": 1.0}), reason="", actor="ada")
    with pytest.raises(RegistryError, match="nothing is live"):
        board.set_route("other", SPLIT, reason="", actor="ada")
    assert lines(board) == []


def test_what_a_rollout_or_a_route_names_is_kept(board: Board) -> None:
    def doomed() -> list[int]:
        with board.catalogue.change() as change:
            found = removable(
                change.versions(),
                change.aliases(),
                change.entries(),
                now_us=2**60,
                days=0.0,
                routed=change.routed(),
            )
        return [version.version for version in found]

    assert doomed() == [2, 3]
    state = begin(board)
    assert doomed() == [3]
    back(board, state)
    assert doomed() == [2, 3]
    board.set_route("router", SPLIT, reason="", actor="ada")
    assert doomed() == [2]


def test_a_catalogue_of_before_is_followed_as_well(board: Board) -> None:
    with board.catalogue.writing() as connection:
        connection.execute(sql.text("DELETE FROM xlmr_board"))
    routing = board.table(["router"])["router"]
    assert (routing.route, routing.revision) == (Single("1"), 0)
    begin(board)


@pytest.mark.parametrize("column", ["rollout", "digests"])
@pytest.mark.parametrize("text", ["{", "{}"])
def test_an_edited_row_is_refused(board: Board, column: str, text: str) -> None:
    begin(board)
    with board.catalogue.writing() as connection:
        connection.execute(sql.update(BOARD).values({column: text}))
    with pytest.raises(DataError):
        board.table(["router"])


STARTER = """
import sys
from tests.registry.rollout.test_board import begin
from xlmr.errors import RegistryConflictError
from xlmr.registry.catalogue import Catalogue
from xlmr.registry.rollout.board import Board
board, me = Board(Catalogue(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
try:
    begin(board, candidate=me, salt=me)
    print("won", flush=True)
except RegistryConflictError:
    print("lost", flush=True)
"""


def test_two_starts_at_once_cannot_both_win(board: Board, database: str) -> None:
    root = Path(__file__).resolve().parents[3]
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, database, me],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
        )
        for me in ("2", "3")
    ]
    try:
        for rival in rivals:
            assert rival.stdout is not None
            assert rival.stdout.readline().strip() == "ready"
        for rival in rivals:
            assert rival.stdin is not None
            rival.stdin.write("\n")
            rival.stdin.flush()
        said = [rival.communicate(timeout=60)[0].strip() for rival in rivals]
    finally:
        for rival in rivals:
            rival.kill()
            rival.communicate()
    assert sorted(said) == ["lost", "won"]
    state = board.state("router")
    assert state is not None
    assert state.candidate == ("2", "3")[said.index("won")]
    assert len(lines(board)) == 1
