"""Rows of rollouts and routes that the journal does not tell of are found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from tests.registry.rollout.parts import catalogue_with_versions, move_live

from xlmr.errors import JournalError
from xlmr.registry.rollout.assignment import Ensemble, Weighted
from xlmr.registry.rollout.board import Board
from xlmr.registry.rollout.kept import Rollout
from xlmr.registry.rollout.plan import make_plan
from xlmr.registry.rollout.state import State, on_command, on_moved, start
from xlmr.registry.tables import BOARD


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    catalogue = catalogue_with_versions(str(tmp_path / "catalogue.db"))
    yield Board(catalogue)
    catalogue.close()


def begin(board: Board, *, candidate: str = "2", live: str = "1", salt: str = "s-1") -> State:
    plan = make_plan({"objective_ms": 100.0})
    state, actions = start(
        "router", live=live, candidate=candidate, plan=plan, salt=salt, now=100.0
    )
    board.begin(Rollout(state=state, counts="database"), actions, actor="ada")
    return state


def commanded(board: Board, state: State, command: Any) -> State:
    following, actions = on_command(state, command, 200.0, who="ada", reason="why not")
    board.save(following, actions, expected=state, actor="ada")
    return following


def edit(board: Board, column: str, change: Callable[[Any], Any]) -> None:
    """As somebody with the rights of the database would."""
    with board.catalogue.writing() as connection:
        text = connection.execute(sql.select(BOARD.c[column])).scalar_one()
        values = change(json.loads(text or "{}"))
        edited = values if isinstance(values, str) else json.dumps(values)
        connection.execute(sql.update(BOARD).values({column: edited}))


def test_every_way_that_a_name_can_go_agrees_with_its_journal(board: Board) -> None:
    check = board.catalogue.whole
    check().check()
    state = begin(board)
    check().check()
    state = commanded(board, commanded(board, state, "promote"), "promote")
    check().check()
    commanded(board, state, "abort")
    check().check()
    board.set_route("router", Weighted({"1": 1.0, "3": 1.0}, "x"), reason="why not", actor="ada")
    check().check()
    board.set_route("router", Ensemble({"1": 1.0, "2": 1.0}), reason="why not", actor="ada")
    check().check()
    move_live(board.catalogue, 3)
    check().check()
    state = begin(board, live="3", salt="s-2")
    move_live(board.catalogue, 2)
    check().check()
    over, actions = on_moved(state, "2", 300.0)
    board.save(over, actions, expected=state, actor="ada")
    check().check()
    board.set_route("router", None, reason="enough", actor="ada")
    check().check()


def with_state(**changed: Any) -> Callable[[Any], Any]:
    return lambda kept: kept | {"state": kept["state"] | changed}


def with_margin(kept: Any) -> Any:
    plan = kept["state"]["plan"] | {"margin": 0.5}
    return with_state(plan=plan)(kept)


@pytest.mark.parametrize(
    ("column", "change", "said"),
    [
        ("rollout", with_state(candidate="3"), "candidate"),
        ("rollout", with_state(live="3"), "live version"),
        ("rollout", with_state(salt="mine"), "salt"),
        ("rollout", with_state(step=4), "stage"),
        ("rollout", with_state(phase="watching"), "phase"),
        ("rollout", with_margin, "plan"),
        ("rollout", lambda kept: "", "candidate|live version|phase|plan|salt|stage"),
        ("rollout", lambda kept: {"nonsense": 1}, "rollout: "),
        ("rollout", lambda kept: "nonsense", "not written by this tool"),
        ("digests", lambda kept: kept | {"2": f"{3:064d}"}, "digests"),
        ("digests", lambda kept: kept | {"3": f"{3:064d}"}, "digests"),
        ("route", lambda kept: {"route": {"versions": {"3": 1.0}}, "live": "1"}, "route"),
        ("route", lambda kept: "nonsense", "Expecting"),
    ],
)
def test_an_edited_row_is_found(board: Board, column: str, change: Any, said: str) -> None:
    begin(board)
    edit(board, column, change)
    with pytest.raises(JournalError, match=f"^router: .*({said})"):
        board.catalogue.whole().check()


def test_a_split_that_was_edited_is_found(board: Board) -> None:
    board.set_route("router", Weighted({"1": 0.9, "2": 0.1}, "x"), reason="why not", actor="ada")
    edit(board, "route", lambda kept: json.loads(json.dumps(kept).replace("0.9", "0.1")))
    with pytest.raises(JournalError, match="router: route"):
        board.catalogue.whole().check()


def test_a_row_that_was_removed_is_found(board: Board) -> None:
    begin(board)
    with board.catalogue.writing() as connection:
        connection.execute(sql.delete(BOARD))
    with pytest.raises(JournalError, match="router: "):
        board.catalogue.whole().check()


def test_what_was_edited_is_ended_by_a_new_start(board: Board) -> None:
    state = begin(board)
    edit(board, "rollout", with_state(salt="mine"))
    commanded(board, board.state("router") or state, "abort")
    begin(board, salt="s-2")
    board.catalogue.whole().check()
