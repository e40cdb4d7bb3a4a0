"""Changes happen whole and one after the other, also from several processes; on both databases."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sql
from tests.postgres import postgres_server
from tests.services import free_port

from xlmr.errors import (
    JournalError,
    RegistryConflictError,
    RegistryError,
    RegistryUnavailableError,
    SettingsError,
)
from xlmr.registry.catalogue import Catalogue
from xlmr.registry.journal import Line, check_chain
from xlmr.registry.tables import Alias, Version

ONE = Version(
    name="router", version=1, digest="a" * 64, answers="b" * 64, pushed_us=5, pushed_by="ada"
)
TWO = replace(ONE, version=2, digest="c" * 64)


def catalogue_with(database: str, *versions: Version) -> Catalogue:
    catalogue = Catalogue(database)
    with catalogue.change() as change:
        for version in versions:
            change.add_version(version)
            change.note(Line(actor="ada", action="push", name="router", version=version.version))
    return catalogue


def check(catalogue: Catalogue) -> int:
    whole = catalogue.whole()
    return check_chain(whole.entries, whole.head)


def test_what_was_written_is_read(database: str) -> None:
    catalogue = catalogue_with(database, ONE, TWO)
    assert catalogue.version("router", 2) == TWO
    assert catalogue.version("router", 3) is None
    assert catalogue.versions() == catalogue.versions("router") == [ONE, TWO]
    assert catalogue.versions("other") == []
    with catalogue.change() as change:
        change.set_alias("router", "live", 1, expected=0)
        change.mark_removed("router", 2, 77)
    assert catalogue.aliases("router") == [Alias(name="router", alias="live", version=1)]
    removed = catalogue.version("router", 2)
    assert removed is not None
    assert removed.removed_us == 77
    assert check(catalogue) == 2
    catalogue.close()
    again = Catalogue(database)
    assert again.versions("router")[0] == ONE
    again.close()


def test_a_change_that_fails_leaves_nothing(database: str) -> None:
    catalogue = catalogue_with(database, ONE)

    def fail() -> None:
        with catalogue.change() as change:
            change.add_version(TWO)
            change.set_alias("router", "live", 2, expected=0)
            change.note(Line(actor="ada", action="push"))
            raise RuntimeError

    def repeat() -> None:
        with catalogue.change() as change:
            change.note(Line(actor="ada", action="push"))
            change.add_version(ONE)

    with pytest.raises(RuntimeError):
        fail()
    with pytest.raises(RegistryConflictError):
        repeat()
    assert catalogue.versions() == [ONE]
    assert catalogue.aliases() == []
    assert check(catalogue) == 1
    catalogue.close()


def test_an_alias_moves_from_where_it_was_seen(database: str) -> None:
    catalogue = catalogue_with(database, ONE, TWO)
    with catalogue.change() as change:
        change.set_alias("router", "live", 1, expected=0)
    for expected in (0, 2):
        with (
            pytest.raises(RegistryConflictError, match="is version 1 by now"),
            catalogue.change() as change,
        ):
            change.set_alias("router", "live", 2, expected=expected)
    with (
        pytest.raises(RegistryConflictError, match="is nothing by now, not version 1"),
        catalogue.change() as change,
    ):
        change.set_alias("router", "canary", 2, expected=1)
    with catalogue.change() as change:
        change.set_alias("router", "live", 2, expected=1)
        change.drop_alias("router", "canary")
        assert change.alias("router", "live") == 2
    catalogue.close()


def test_what_was_live_at_a_moment(database: str) -> None:
    now = [0]
    catalogue = Catalogue(database, clock=lambda: now[0])
    for at, action, version in ((10, "alias", 1), (20, "alias", 2), (30, "rollback", 1)):
        now[0] = at
        with catalogue.change() as change:
            line = Line(actor="a", action=action, name="router", alias="live", version=version)
            change.note(line)
            change.note(replace(line, action="look", version=9))
            change.note(replace(line, alias="canary", version=8))
    live = [catalogue.version_at("router", "live", at) for at in (9, 10, 19, 20, 29, 30, 99)]
    assert live == [0, 1, 1, 2, 2, 1, 1]
    assert catalogue.version_at("other", "live", 99) == 0
    catalogue.close()


def test_an_edited_database_is_found(database: str) -> None:
    catalogue = catalogue_with(database, ONE, TWO)
    engine = sql.create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sql.text("UPDATE xlmr_journal SET actor = 'eve' WHERE seq = 1"))
    with pytest.raises(JournalError, match="line 1 was edited"):
        check(catalogue)
    with engine.begin() as connection:
        connection.execute(sql.text("UPDATE xlmr_journal SET actor = 'ada' WHERE seq = 1"))
        connection.execute(sql.text("DELETE FROM xlmr_journal WHERE seq = 2"))
    with pytest.raises(JournalError, match="ends at line 1"):
        check(catalogue)
    engine.dispose()
    catalogue.close()


PROMOTER = """
import sys
from xlmr.errors import RegistryConflictError
from xlmr.registry.catalogue import Catalogue
from xlmr.registry.journal import Line
catalogue, me = Catalogue(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
for said in sys.stdin:
    seen, wanted = int(said), (int(said) // 10 + 1) * 10 + me
    try:
        with catalogue.change() as change:
            change.set_alias("router", "live", wanted, expected=seen)
            line = Line(actor=str(me), action="alias", name="router", alias="live", version=wanted)
            change.note(line)
        print("won", flush=True)
    except RegistryConflictError:
        print("lost", flush=True)
"""


def test_two_promotions_at_once_cannot_both_win(database: str) -> None:
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", PROMOTER, database, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in (1, 2, 3)
    ]

    def say(text: str) -> None:
        for rival in rivals:
            assert rival.stdin is not None
            rival.stdin.write(text)
            rival.stdin.flush()

    def hear() -> list[str]:
        return [rival.stdout.readline().strip() for rival in rivals if rival.stdout is not None]

    try:
        assert hear() == ["ready"] * 3
        catalogue = Catalogue(database)
        live = 0
        for round_number in range(1, 21):
            say(f"{live}\n")  # all three have seen the same
            said = hear()
            assert sorted(said) == ["lost", "lost", "won"]
            (alias,) = catalogue.aliases()
            assert alias.version == 10 * round_number + said.index("won") + 1
            live = alias.version
        assert check(catalogue) == 20
        catalogue.close()
    finally:
        for rival in rivals:
            rival.kill()
            rival.communicate()


def test_a_busy_sqlite_file_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xlmr.database._WAIT_S", 0.1)
    catalogue = Catalogue(str(tmp_path / "c.db"))
    other = sqlite3.connect(tmp_path / "c.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert catalogue.versions() == []  # readers do not wait
    with pytest.raises(RegistryUnavailableError, match="locked"), catalogue.change():
        pass
    other.execute("ROLLBACK")
    with catalogue.change() as change:
        change.add_version(ONE)
    other.close()
    catalogue.close()


def test_a_place_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("x" * 5000)
    with pytest.raises(RegistryUnavailableError, match="not a database"):
        Catalogue(str(tmp_path / "text"))
    with pytest.raises(SettingsError, match="mysql"):
        Catalogue("mysql://somebody:secret@host/x")
    with pytest.raises(SettingsError):
        Catalogue("://")


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(RegistryUnavailableError) as caught:
        Catalogue(f"postgresql://xlmr:hush@127.0.0.1:{free_port()}/x")
    assert "127.0.0.1" in caught.value.message
    assert "hush" not in str(caught.value)


def test_a_server_that_comes_back_is_used_again() -> None:
    with postgres_server() as server:
        catalogue = catalogue_with(server.url, ONE)
        server.stop()
        with pytest.raises(RegistryUnavailableError):
            catalogue.versions()
        server.start()
        assert catalogue.versions() == [ONE]
        catalogue.close()


def test_a_catalogue_is_loaded_into_an_empty_one_only(database: str, tmp_path: Path) -> None:
    source = catalogue_with(database, ONE, TWO)
    whole = source.whole()
    target = Catalogue(str(tmp_path / "new.db"))
    with target.change() as change:
        change.load(whole)
        change.note(Line(actor="ada", action="restore"))
    assert target.versions() == [*whole.versions]
    assert target.entries()[:-1] == [*whole.entries]
    assert check(target) == whole.head.seq + 1
    with pytest.raises(RegistryError, match="not empty"), target.change() as change:
        change.load(whole)
    target.close()
    source.close()


def test_several_who_open_a_new_one_at_once(database: str) -> None:
    opener = "import sys; from xlmr.registry.catalogue import Catalogue; Catalogue(sys.argv[1])"
    openers = [subprocess.Popen([sys.executable, "-c", opener, database]) for _ in range(4)]
    assert [process.wait(60) for process in openers] == [0] * 4
    catalogue = Catalogue(database)
    assert check(catalogue) == 0
    catalogue.close()
