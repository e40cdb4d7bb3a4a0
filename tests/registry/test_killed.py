"""Killed at any step, a registry is what it was or what it should be, and never in between."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.postgres import PostgresServer
from tests.registry.parts import gate_report, open_at, small_models

from xlmr.errors import VersionNotFoundError
from xlmr.registry.backup import latest, restore
from xlmr.registry.catalogue import Catalogue
from xlmr.registry.registry import Registry
from xlmr.registry.roles import Actor
from xlmr.registry.rollout.assignment import Weighted
from xlmr.registry.rollout.board import Board
from xlmr.registry.store import Store

REPOSITORY = Path(__file__).resolve().parents[2]
Run = Callable[..., int]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.registry.dying"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    put, get = process.stdin, process.stdout

    def killed_at(step: int, **told: Any) -> int:
        put.write(json.dumps({"dies_at": step} | {k: str(v) for k, v in told.items()}) + "\n")
        put.flush()
        said = get.readline()
        assert said, "the process that starts the others is gone"
        return int(said)

    yield killed_at
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return small_models(tmp_path_factory.mktemp("models"), 3)


def steps(run: Run, check: Callable[[int, bool], None], told: Callable[[int], Any]) -> int:
    """Kills at the first step, the second, …, until a run ends by itself; how many deaths."""
    for step in range(200):
        code = run(step, **told(step))
        assert code in (0, -signal.SIGKILL)
        check(step, code == 0)
        if code == 0:
            return step
    raise AssertionError("it never ended by itself")


def test_push(run: Run, models: list[Path], tmp_path: Path) -> None:
    seen: set[int] = set()

    def check(step: int, ended: bool) -> None:
        registry = open_at(tmp_path / str(step))
        versions = registry.catalogue.versions()
        seen.add(len(versions))
        if versions or ended:
            registry.verify("router@1")
        else:
            with pytest.raises(VersionNotFoundError):
                registry.resolve("router@1")
        # The next push needs no help, and cleans nothing up first.
        assert registry.push("router", models[0]).version == 1
        registry.verify("router@1")
        assert registry.verify_journal() == 1
        registry.catalogue.close()

    deaths = steps(
        run,
        check,
        lambda step: {"verb": "push", "place": tmp_path / str(step), "model": models[0]},
    )
    assert deaths >= 3 * len(list((models[0]).rglob("*.json")))
    assert seen == {0, 1}


def two_versions(place: Path, models: list[Path], database: str = "") -> Registry:
    """Version 1 live, version 2 beside it."""
    registry = Registry(
        Catalogue(database or str(place / "catalogue.db")),
        Store(str(place / "store")),
        Actor("ada"),
    )
    for model in models[:2]:
        registry.push("router", model)
    registry.set_alias("router@1", "live", report=gate_report(models[0]))
    return registry


def test_promote(run: Run, models: list[Path], tmp_path: Path) -> None:
    registry = two_versions(tmp_path, models)
    lines = registry.verify_journal()
    told = {"verb": "promote", "place": tmp_path, "model": models[1], "live": models[0]}
    seen: list[int] = []

    def check(step: int, ended: bool) -> None:
        live = registry.resolve("router").version
        seen.append(live)
        assert registry.verify_journal() == lines + (live == 2)
        assert live == 2 or not ended
        if live == 2 and not ended:  # killed after the commit: it is done; once more from the start
            registry.rollback("router", reason="again")
            again.append(step)

    again: list[int] = []
    for step in range(50):
        lines = registry.verify_journal()
        code = run(step, **told)
        assert code in (0, -signal.SIGKILL)
        check(step, code == 0)
        if code == 0:
            break
    assert seen[-1] == 2
    assert seen.count(1) >= 4
    assert again  # one death was after the commit
    registry.catalogue.close()


def test_rollback(run: Run, models: list[Path], tmp_path: Path) -> None:
    registry = two_versions(tmp_path, models)
    again = gate_report(models[1], live=models[0])
    registry.set_alias("router@2", "live", report=again)
    told = {"verb": "rollback", "place": tmp_path}
    seen: list[int] = []
    for step in range(50):
        lines = registry.verify_journal()
        code = run(step, **told)
        assert code in (0, -signal.SIGKILL)
        live = registry.resolve("router").version
        seen.append(live)
        assert registry.verify_journal() == lines + (live == 1)
        if code == 0:
            break
        if live == 1:
            registry.set_alias("router@2", "live", report=again)
    assert seen[-1] == 1
    assert seen.count(2) >= 2
    registry.catalogue.close()


def empty(postgres: PostgresServer) -> str:
    """The URL of an empty database there."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return postgres.url


def test_on_postgres(
    run: Run, models: list[Path], tmp_path: Path, postgres: PostgresServer
) -> None:
    registry = two_versions(tmp_path, models, empty(postgres))
    told = {
        "verb": "promote",
        "place": tmp_path,
        "model": models[1],
        "live": models[0],
        "database": postgres.url,
    }
    seen: list[int] = []
    for step in range(50):
        lines = registry.verify_journal()
        code = run(step, **told)
        assert code in (0, -signal.SIGKILL)
        live = registry.resolve("router").version
        seen.append(live)
        assert registry.verify_journal() == lines + (live == 2)
        if code == 0:
            break
        if live == 2:
            registry.rollback("router", reason="again")
    assert seen[-1] == 2
    assert seen.count(1) >= 4
    registry.catalogue.close()


def test_gc(run: Run, models: list[Path], tmp_path: Path) -> None:
    def told(step: int) -> dict[str, Any]:
        registry = two_versions(tmp_path / str(step), models)
        registry.push("router", models[2])
        registry.catalogue.close()
        return {"verb": "gc", "place": tmp_path / str(step)}

    def check(step: int, ended: bool) -> None:
        registry = open_at(tmp_path / str(step))
        registry.verify_journal()
        for version in registry.catalogue.versions():
            if not version.removed_us:
                registry.verify(f"router@{version.version}")
        registry.verify("router@live")
        registry.catalogue.close()

    assert steps(run, check, told) >= 4


def test_backup_and_restore(run: Run, models: list[Path], tmp_path: Path) -> None:
    registry = two_versions(tmp_path, models)
    whole: list[bool] = []

    def check(step: int, ended: bool) -> None:
        target = Store(str(tmp_path / "backup"))
        there = any(kept.key.startswith("catalogue-") for kept in target.list(""))
        whole.append(there)
        assert there or not ended
        if there:
            fresh = Catalogue(str(tmp_path / f"fresh-{step}.db"))
            restored = Store(str(tmp_path / f"fresh-{step}"))
            restore(target, fresh, restored, actor="ada")
            Registry(fresh, restored, Actor("ada")).verify("router@live")
            fresh.close()

    # Each goes on where the one before died: what was copied is not copied again.
    assert steps(run, check, lambda step: {"verb": "backup", "place": tmp_path}) >= 2
    assert whole[0] is False
    registry.catalogue.close()

    def check_restored(step: int, ended: bool) -> None:
        new = open_at(tmp_path / f"new-{step}")
        if new.catalogue.versions():
            new.verify("router@live")
            new.verify_journal()
        else:
            assert not ended
            restore(Store(str(tmp_path / "backup")), new.catalogue, new.store, actor="ada")
            new.verify("router@live")
        new.catalogue.close()

    deaths = steps(
        run,
        check_restored,
        lambda step: {
            "verb": "restore",
            "place": tmp_path / f"new-{step}",
            "backup": tmp_path / "backup",
        },
    )
    assert deaths >= 10
    assert latest(Store(str(tmp_path / "backup"))).head.seq == 3


@pytest.mark.parametrize("on_postgres", [False, True])
def test_rollout(
    run: Run,
    models: list[Path],
    tmp_path: Path,
    on_postgres: bool,
    request: pytest.FixtureRequest,
) -> None:
    database = str(tmp_path / "catalogue.db")
    if on_postgres:
        database = empty(request.getfixturevalue("postgres"))
    registry = two_versions(tmp_path, models, database)
    board = Board(registry.catalogue)

    def stands() -> tuple[object, ...]:
        """What a server would follow, the stage, and how many lines tell of it."""
        routing, state = board.table(["router"])["router"], board.state("router")
        rollout = None if state is None else (state.salt, state.phase, state.step)
        actions = [entry.action for entry in registry.catalogue.entries()]
        return routing.live, routing.route, rollout, tuple(actions)

    def until_done(verb: str) -> int:
        """Kills it at every step; each time there is what was, or the whole of what should be."""
        before = stands()
        for step in range(50):
            code = run(step, verb=f"rollout {verb}", place=tmp_path, database=database)
            assert code in (0, -signal.SIGKILL)
            registry.verify_journal()
            if stands() != before:
                return step
            assert code != 0
        raise AssertionError("it never ended by itself")

    if on_postgres:  # one transaction is as another: those that move the alias will do
        run(99, verb="rollout start", place=tmp_path, database=database)
    else:
        assert until_done("split") >= 3
        assert board.table(["router"])["router"].route == Weighted({"1": 1.0, "2": 1.0}, "salt")
        board.set_route("router", None, reason="", actor="ada")
        assert until_done("start") >= 4
    lines = registry.verify_journal()
    assert until_done("promote") >= 5
    assert board.table(["router"])["router"].live == "2"
    assert registry.verify_journal() == lines + 2
    assert until_done("abort") >= 5
    assert board.table(["router"])["router"].live == "1"
    assert registry.verify_journal() == lines + 4
    registry.catalogue.close()
