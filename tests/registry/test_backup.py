"""What was backed up comes back: on another database, with another key, and only if it is whole."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from tests.registry.parts import gate_report, open_at, small_models
from tests.registry.rollout.parts import fair

from xlmr.errors import DigestMismatchError, JournalError, RegistryError
from xlmr.registry.backup import backup, restore
from xlmr.registry.catalogue import Catalogue
from xlmr.registry.envelope import Envelope
from xlmr.registry.registry import Registry
from xlmr.registry.roles import Actor
from xlmr.registry.rollout.assignment import Weighted
from xlmr.registry.rollout.board import Board
from xlmr.registry.rollout.burn import Window
from xlmr.registry.rollout.controller import Controller
from xlmr.registry.rollout.counts import SqlCounts
from xlmr.registry.rollout.evidence import Evidence
from xlmr.registry.rollout.plan import make_plan
from xlmr.registry.signature import Signer, new_key_pair, read_trusted
from xlmr.registry.store import Store

PLAN = make_plan({"objective_ms": 100.0})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return small_models(tmp_path_factory.mktemp("models"), 3)


@pytest.fixture
def place(tmp_path: Path, models: list[Path]) -> Path:
    """A registry with two signed versions, one of which is live, and a removed name's number."""
    private, public = new_key_pair()
    (tmp_path / "key").write_bytes(private)
    (tmp_path / "key.pem").write_bytes(public)
    registry = open_at(tmp_path, signer=Signer(tmp_path / "key"))
    for model in models[:2]:
        registry.push("router", model)
    registry.set_alias("router@1", "live", report=gate_report(models[0]))
    registry.catalogue.close()
    return tmp_path


def test_a_drill(place: Path, models: list[Path], database: str) -> None:
    """The machine burns down; a new one, with another database, goes on where the old one was."""
    old = open_at(place)
    target = Store(str(place / "backup"))
    told: list[tuple[str, int, int]] = []
    taken = backup(old.catalogue, old.store, target, progress=lambda *said: told.append(said))
    assert told[-1][1] == told[-1][2] > 0
    expected = old.catalogue.whole()
    # A second backup takes only what is new.
    blobs = {kept.key: kept.modified for kept in target.list("blobs")}
    old.push("router", models[2])
    backup(old.catalogue, old.store, target)
    assert {k.key: k.modified for k in target.list("blobs") if k.key in blobs} == blobs
    pushed = old.catalogue.whole()
    old.catalogue.close()

    catalogue = Catalogue(database)
    sealed = Store(str(place / "new"), envelope=Envelope(bytes(32)))
    restore(target, catalogue, sealed, actor="bo", reason="drill")
    assert catalogue.versions() == [*pushed.versions] != [*expected.versions]
    assert catalogue.aliases() == [*pushed.aliases]
    assert catalogue.entries()[:-1] == [*pushed.entries]
    last = catalogue.entries()[-1]
    assert (last.action, last.actor) == ("restore", "bo")
    assert last.reason == f"a backup of line {taken.head.seq + 1}: drill"
    new = Registry(catalogue, sealed, Actor("bo"), trusted=read_trusted(str(place / "key.pem")))
    assert new.verify("router@1").signed_by
    assert new.verify_journal(anchor=(taken.head.seq, taken.head.hash)) == last.seq
    report = gate_report(models[1], live=models[0])
    new.set_alias("router@2", "live", report=report)
    assert new.rollback("router", reason="drill").version == 1
    evidence = {e.evidence for e in catalogue.entries() if e.evidence}
    assert all(sealed.get(f"evidence/{digest}.json") for digest in evidence)
    with pytest.raises(RegistryError, match="not empty"):
        restore(target, catalogue, sealed, actor="bo")
    catalogue.close()


def test_a_rollout_under_way_goes_on_after_a_restore(place: Path, database: str) -> None:
    """Backed up in the middle of a stage; after the fire its counts and its clock are the same."""
    now = [time.time()]
    old = open_at(place)

    def controller_of(registry: Registry) -> Controller:
        board = Board(registry.catalogue)
        return Controller(board, SqlCounts(registry.catalogue), registry, now=lambda: now[0])

    def count(controller: Controller, server: str, sequence: int, units: int) -> None:
        state = controller.board.state("router")
        minutes = {int(now[0] // 60): Window(2 * units, 0)}
        evidence = fair(units, state.plan.stages[state.step].null_share)
        added = {"server": server, "sequence": sequence, "evidence": evidence, "minutes": minutes}
        assert controller.counts.add(state.salt, state.epoch, **added)

    controller = controller_of(old)
    controller.start("router@2", plan=PLAN, override="a drill")
    for server in ("a", "b"):
        count(controller, server, 1, PLAN.stages[0].units // 4)
    before = controller.look("router")
    assert before.step == 0
    target = Store(str(place / "backup"))
    backup(old.catalogue, old.store, target)
    seen = controller.see("router")
    old.catalogue.close()

    catalogue = Catalogue(database)
    store = Store(str(place / "new"))
    restore(target, catalogue, store, actor="bo")
    new = Registry(catalogue, store, Actor("bo"))
    new.verify_journal()
    controller = controller_of(new)
    assert controller.see("router") == seen
    assert controller.board.table(["router"])["router"].route == before.route
    windows = controller.counts.windows(before.salt, before.epoch, now[0])
    assert windows[300].units == PLAN.stages[0].units
    # A server that lived on sends again what it does not know to have arrived, and then more.
    state = controller.board.state("router")
    again = {"evidence": Evidence(), "minutes": {}}
    assert not controller.counts.add(state.salt, state.epoch, server="a", sequence=1, **again)
    count(controller, "a", 2, PLAN.stages[0].units)
    now[0] += 60.0 * PLAN.stages[0].minutes + 1.0
    assert controller.look("router").step == 1
    new.verify_journal()
    catalogue.close()


def test_a_split_comes_back(place: Path) -> None:
    old = open_at(place)
    split = Weighted({"1": 0.5, "2": 0.5}, "x")
    Board(old.catalogue).set_route("router", split, reason="why not", actor="ada")
    backup(old.catalogue, old.store, Store(str(place / "backup")))
    old.catalogue.close()
    catalogue = Catalogue(str(place / "new.db"))
    restore(Store(str(place / "backup")), catalogue, Store(str(place / "new")), actor="bo")
    assert Board(catalogue).table(["router"])["router"].route == split
    catalogue.close()


def test_a_broken_journal_is_not_backed_up(place: Path) -> None:
    import sqlite3

    base = sqlite3.connect(place / "catalogue.db")
    base.execute("UPDATE xlmr_journal SET actor = 'eve' WHERE seq = 2")
    base.commit()
    base.close()
    registry = open_at(place)
    with pytest.raises(JournalError, match="line 2"):
        backup(registry.catalogue, registry.store, Store(str(place / "backup")))
    registry.catalogue.close()


def test_a_damaged_backup_is_not_restored(place: Path) -> None:
    registry = open_at(place)
    target = Store(str(place / "backup"))
    backup(registry.catalogue, registry.store, target)
    registry.catalogue.close()
    catalogue = Catalogue(str(place / "new.db"))
    store = Store(str(place / "new"))
    (file,) = (place / "backup").glob("catalogue-*.json")
    whole = file.read_text()
    edited = json.loads(whole)
    edited["catalogue"]["aliases"][0]["version"] = 2
    for content, said in (
        (json.dumps(edited), "the journal says 1"),
        (whole.replace('"ada"', '"eve"'), "line 1 was edited"),
        (whole[:-10], "no catalogue"),
        (whole.replace('"format": 2', '"format": 1'), "format 1"),
        (json.dumps(edited | {"catalogue": {}}), "no catalogue"),
    ):
        file.write_text(content)
        with pytest.raises(RegistryError, match=said):
            restore(target, catalogue, store, actor="ada")
    file.write_text(whole)
    blob = max((place / "backup" / "blobs").glob("*/*"), key=lambda path: path.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[100] ^= 1
    blob.write_bytes(data)
    with pytest.raises(DigestMismatchError):
        restore(target, catalogue, store, actor="ada")
    assert catalogue.versions() == []
    with pytest.raises(RegistryError, match="no backup"):
        restore(Store(str(place / "elsewhere")), catalogue, store, actor="ada")
    catalogue.close()
