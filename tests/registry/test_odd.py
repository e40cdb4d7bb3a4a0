"""What strangers and breakers do to a registry: odd names, odd files, two at once, a full disk."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from tests.registry.parts import gate_report, open_at, small_models

from xlmr.errors import (
    DigestMismatchError,
    JournalError,
    RegistryError,
    RegistryUnavailableError,
    VersionNotFoundError,
)
from xlmr.registry.catalogue import Catalogue
from xlmr.registry.manifest import make_manifest
from xlmr.registry.registry import Registry
from xlmr.registry.roles import Actor
from xlmr.registry.store import Store, blob_key


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return small_models(tmp_path_factory.mktemp("models"), 2)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = open_at(tmp_path)
    yield opened
    opened.catalogue.close()


@pytest.fixture
def model(tmp_path: Path, models: list[Path]) -> Path:
    """A copy to spoil."""
    shutil.copytree(models[0], tmp_path / "model")
    return tmp_path / "model"


def test_two_pushes_of_the_same_tree_at_once_are_one_version(
    database: str, tmp_path: Path, models: list[Path]
) -> None:
    meet = threading.Barrier(2, timeout=60)
    found: list[Any] = []

    def push(actor: str) -> None:
        waited: list[str] = []

        def step(name: str) -> None:
            if name == "stored trees" and not waited:
                waited.append(name)
                meet.wait()  # both have stored everything, and neither has a version

        catalogue = Catalogue(database)
        store = Store(str(tmp_path / "store"), step=step)
        found.append(Registry(catalogue, store, Actor(actor)).push("router", models[0]))
        catalogue.close()

    threads = [threading.Thread(target=push, args=(actor,)) for actor in ("ada", "bo")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2
    assert found[0] == found[1]
    registry = Registry(Catalogue(database), Store(str(tmp_path / "store")), Actor("ada"))
    assert registry.verify_journal() == 1
    registry.verify("router@1")
    assert not list(registry.store.list("drafts"))
    registry.catalogue.close()


class FullAfter(fsspec.get_filesystem_class("memory")):  # type: ignore[misc]
    """A store that has room for so many files."""

    protocol = "full"
    room = 0
    cachable = False

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "wb":
            if not FullAfter.room:
                raise OSError(28, "No space left on device")
            FullAfter.room -= 1
        return super()._open(path, mode=mode, **options)


def test_a_store_that_fills_up_while_pushing(tmp_path: Path, models: list[Path]) -> None:
    fsspec.register_implementation("full", FullAfter, clobber=True)
    needed = len(make_manifest(models[0]).files) + 1
    catalogue = Catalogue(str(tmp_path / "catalogue.db"))
    registry = Registry(catalogue, Store("full://store"), Actor("ada"))
    for room in range(needed):
        FullAfter.store.clear()
        FullAfter.room = room
        with pytest.raises(RegistryUnavailableError, match="no space left"):
            registry.push("router", models[0])
        assert catalogue.versions() == []
        assert not list(registry.store.list("drafts"))
    FullAfter.room = 1  # what is there already is not written again
    assert registry.push("router", models[0]).version == 1
    registry.verify("router@1")
    FullAfter.store.clear()
    catalogue.close()


def test_a_database_that_is_full(tmp_path: Path, models: list[Path], registry: Registry) -> None:
    registry.push("router", models[0])
    with sqlite3.connect(tmp_path / "catalogue.db") as base:
        (pages,) = base.execute("PRAGMA page_count").fetchone()
    limit = f"PRAGMA max_page_count={pages}"

    def cramped(connection: Any, record: Any) -> None:
        connection.execute(limit)

    import sqlalchemy

    sqlalchemy.event.listen(registry.catalogue._database.engine, "connect", cramped)
    registry.catalogue.close()  # so that it connects anew
    with pytest.raises(RegistryUnavailableError, match="full"):
        registry.set_alias("router@1", "canary", reason="x" * 1_000_000)
    assert registry.catalogue.aliases() == []
    assert registry.verify_journal() == len(registry.catalogue.entries())


@pytest.mark.parametrize(
    "reference",
    [
        "router@99999999999999999999",
        "router@" + "9" * 5000,
        "router@-1",
        "router@1.0",
        "router@٣",
        "rou\0ter@1",
        "rou\udcffter@1",
        "router@\udcff",
        "router@1@2",
        "../router@1",
        "router@ 1",
    ],
)
def test_a_reference_that_can_be_none(
    registry: Registry, models: list[Path], reference: str
) -> None:
    registry.push("router", models[0])
    with pytest.raises(VersionNotFoundError):
        registry.resolve(reference)


@pytest.mark.parametrize("reason", ["a\0b", "a\udcffb"])
def test_a_reason_that_no_database_stores(
    registry: Registry, models: list[Path], reason: str
) -> None:
    with pytest.raises(RegistryError, match="the journal's reason"):
        registry.push("router", models[0], reason=reason)
    assert registry.catalogue.versions() == []
    registry.push("router", models[0], reason="überraschend\n再来 \x1b[31m")
    assert registry.verify_journal() == 1


def test_files_with_odd_names(registry: Registry, model: Path, tmp_path: Path) -> None:
    for name in ("ü 再.txt", "-rf", "with space", "'quoted'", "%2e%2e", "*"):
        (model / name).write_text(name)
    (model / "empty.txt").touch()
    version = registry.push("router", model)
    registry.pull("router@1", tmp_path / "out", plain=True)
    assert make_manifest(tmp_path / "out").digest == version.digest
    assert (tmp_path / "out" / "empty.txt").stat().st_size == 0
    assert (tmp_path / "out" / "*").read_text() == "*"
    for name in ("a:b", "line\nbreak", "back\\slash", "C:drive"):
        (model / name).write_text("x")
        with pytest.raises(RegistryError, match="relative path"):
            registry.push("router", model)
        (model / name).unlink()
    broken = bytes(model) + b"/\xff.txt"
    Path(broken.decode("utf-8", "surrogateescape")).touch()
    with pytest.raises(RegistryError, match="relative path"):
        registry.push("router", model)


def test_files_that_are_links(registry: Registry, model: Path, tmp_path: Path) -> None:
    """As the hub's cache keeps them: a link counts for what it leads to."""
    kept = tmp_path / "blob"
    (model / "tokenizer.json").rename(kept)
    (model / "tokenizer.json").symlink_to(kept)
    registry.push("router", model)
    registry.pull("router@1", tmp_path / "out")
    assert not (tmp_path / "out" / "tokenizer.json").is_symlink()
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == kept.read_bytes()


@pytest.mark.parametrize("said", ['{"loss": NaN}', '{"name": "\\ud800"}'])
def test_a_lineage_that_nobody_could_read_is_refused_at_once(
    registry: Registry, models: list[Path], model: Path, said: str
) -> None:
    registry.push("router", models[1])
    (model / "xlmr.json").write_text(f'{{"format": 1, "lineage": {said}}}')
    with pytest.raises(RegistryError, match=r"xlmr\.json: no manifest"):
        registry.push("router", model)
    assert [v.version for v in registry.catalogue.versions()] == [1]
    registry.verify("router@1")


def test_a_manifest_that_tells_of_another_origin_is_found(
    registry: Registry, models: list[Path], tmp_path: Path
) -> None:
    version = registry.push("router", models[0])
    tree = tmp_path / "store" / "trees" / f"{version.digest}.json"
    true = registry.manifest(version)
    for forged in (
        replace(true, lineage={"code": "revision of somebody else"}),
        replace(true, license="mit"),
    ):
        tree.write_bytes(forged.to_bytes())
        with pytest.raises(RegistryError, match="not the lineage or the licence"):
            registry.verify("router@1")
    registry.push("router", models[0])  # writes it anew
    registry.verify("router@1")


def test_every_column_of_a_version_is_what_the_journal_says(
    registry: Registry, models: list[Path], tmp_path: Path
) -> None:
    registry.push("router", models[0])
    base = sqlite3.connect(tmp_path / "catalogue.db")
    for edit in ("pushed_by = 'eve'", "pushed_us = pushed_us + 1", "removed_us = 5"):
        (was,) = base.execute("SELECT pushed_us FROM xlmr_versions").fetchone()
        base.execute(f"UPDATE xlmr_versions SET {edit}")
        base.commit()
        with pytest.raises(JournalError, match="not what the journal says"):
            registry.verify_journal()
        base.execute(f"UPDATE xlmr_versions SET pushed_by='ada', removed_us=0, pushed_us={was}")
        base.commit()
    registry.verify_journal()
    for vandal in ("INSERT INTO xlmr_head SELECT * FROM xlmr_head", "DELETE FROM xlmr_head"):
        base.execute(vandal)
        base.commit()
        for look in (registry.verify_journal, lambda: registry.push("router", models[1])):
            with pytest.raises(JournalError, match="head"):
                look()
    base.close()


def test_a_clock_that_goes_backwards(tmp_path: Path, models: list[Path]) -> None:
    clock = iter([1_000_000, 900_000, 500_000, 1_200_000])
    catalogue = Catalogue(str(tmp_path / "catalogue.db"), clock=lambda: next(clock))
    registry = Registry(catalogue, Store(str(tmp_path / "store")), Actor("ada"))
    for model in models:
        registry.push("router", model)
    registry.set_alias("router@1", "live", report=gate_report(models[0]))
    registry.set_alias("router@2", "live", override="now")
    moments = [entry.at_us for entry in catalogue.entries()]
    assert moments == [1_000_000, 1_000_000, 1_000_000, 1_200_000]
    assert catalogue.version_at("router", "live", 1_100_000) == 1
    assert catalogue.version_at("router", "live", 1_200_000) == 2
    assert registry.verify_journal() == 4
    catalogue.close()


def test_what_a_card_says_does_not_steer_a_terminal(registry: Registry, model: Path) -> None:
    (model / "README.md").write_text("---\nlicense: mit\x1b]0;x\x07\n---\n# R\x1b[2J\n")
    (model / "xlmr.json").write_text(json.dumps({"format": 1, "lineage": {"code": "\x1b[31mred"}}))
    version = registry.push("router", model)
    from xlmr.cli.registry_tables import shown, version_lines

    text = "\n".join(version_lines(version, registry.manifest(version)))
    assert "\x1b" not in text + shown(registry.card(version))
    assert "red" in text


def test_a_damaged_file_comes_back_as_the_page_says(
    registry: Registry, models: list[Path], tmp_path: Path
) -> None:
    entry = registry.manifest(registry.push("router", models[0])).file("tokenizer.json")
    assert entry is not None
    blob = tmp_path / "store" / blob_key(entry.sha256)
    blob.write_bytes(blob.read_bytes().replace(b"a", b"b", 1))
    with pytest.raises(DigestMismatchError) as caught:
        registry.verify("router@1")
    page = Path(__file__).resolve().parents[2] / "docs" / "registry.md"
    assert f"xlmr: {caught.value.message}\n" in page.read_text(encoding="utf-8")
    named = caught.value.hint.split()[1]
    registry.push("router", models[0])  # what is there is not read again
    with pytest.raises(DigestMismatchError):
        registry.verify("router@1")
    (tmp_path / "store" / named).unlink()
    registry.push("router", models[0])
    registry.verify("router@1")
