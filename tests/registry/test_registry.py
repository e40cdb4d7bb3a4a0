"""The verbs: versions are immutable, nothing goes live unproven, the way back is one command."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
import transformers
from tests.registry.parts import gate_report, open_at, small_models

from xlmr.errors import (
    DigestMismatchError,
    ForbiddenError,
    JournalError,
    ModelError,
    PromotionError,
    RegistryConflictError,
    RegistryError,
    RegistryUnavailableError,
    SignatureError,
    VersionNotFoundError,
)
from xlmr.model.predictor import load
from xlmr.registry.catalogue import Catalogue
from xlmr.registry.manifest import MANIFEST_FILE, SIGNATURE_FILE, make_manifest
from xlmr.registry.registry import Registry
from xlmr.registry.roles import Actor
from xlmr.registry.signature import Signer, new_key_pair, read_trusted, verify_directory
from xlmr.registry.store import Store, blob_key

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return small_models(tmp_path_factory.mktemp("models"), 4)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = open_at(tmp_path)
    yield opened
    opened.catalogue.close()


def promote(registry: Registry, reference: str, model: Path, live: Path | None = None) -> None:
    registry.set_alias(reference, "live", report=gate_report(model, live=live))


def filled(registry: Registry, models: list[Path]) -> Registry:
    """All models pushed and, one after the other, live."""
    for number, model in enumerate(models, start=1):
        registry.push("router", model)
        promote(registry, f"router@{number}", model, models[number - 2] if number > 1 else None)
    return registry


def test_versions_are_numbered_and_kept_once(registry: Registry, models: list[Path]) -> None:
    first = registry.push("router", models[0], reason="the first")
    assert (first.name, first.version, first.pushed_by) == ("router", 1, "ada")
    assert first.digest == make_manifest(models[0]).digest
    assert registry.push("router", models[0]) == first
    assert registry.push("router", models[1]).version == 2
    assert registry.push("other", models[0]).version == 1
    # What both have in common lies there once.
    files = {entry.sha256 for model in models[:2] for entry in make_manifest(model).files}
    assert len(list(registry.store.list("blobs"))) == len(files)
    assert [(e.action, e.name, e.version) for e in registry.catalogue.entries()] == [
        ("push", "router", 1),
        ("push", "router", 2),
        ("push", "other", 1),
    ]
    assert registry.manifest(first).lineage == {"code": "revision 1"}
    assert registry.verify("router@1").files == len(make_manifest(models[0]).files)
    assert registry.verify_journal() == 3


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a@b", "-x", "x" * 101, "a b", "é"])
def test_a_name_that_could_be_something_else_is_refused(
    registry: Registry, models: list[Path], name: str
) -> None:
    with pytest.raises(RegistryError, match="a name is"):
        registry.push(name, models[0])
    registry.push("router", models[0])
    with pytest.raises(RegistryError, match="a name is"):
        registry.set_alias("router@1", name)


def test_what_is_pulled_is_what_was_pushed(
    registry: Registry, models: list[Path], tmp_path: Path
) -> None:
    registry.push("router", models[0])
    registry.set_alias("router@1", "canary")
    told: list[tuple[str, int, int]] = []
    noisy = open_at(tmp_path, progress=lambda *said: told.append(said))
    noisy.pull("router@canary", tmp_path / "out")
    noisy.catalogue.close()
    assert told[-1][0] == "pulling"
    assert told[-1][1] == told[-1][2]
    assert make_manifest(tmp_path / "out") == make_manifest(models[0])
    with load(tmp_path / "out", precision="fp32") as ours, load(models[0], precision="fp32") as was:
        assert ours.classify(["hello"]) == was.classify(["hello"])
    with pytest.raises(ModelError, match="exists"):
        registry.pull("router@1", tmp_path / "out")
    registry.pull("router@1", tmp_path / "out", force=True, plain=True)
    assert not (tmp_path / "out" / MANIFEST_FILE).exists()
    # It goes back in as the same version: nothing was added that counts.
    assert registry.push("router", tmp_path / "out").version == 1


def test_transformers_opens_what_is_pulled(
    registry: Registry, models: list[Path], tmp_path: Path
) -> None:
    registry.push("router", models[0])
    registry.pull("router@1", tmp_path / "out", plain=True)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {entry.path for entry in make_manifest(models[0]).files}
    loader = transformers.AutoModelForSequenceClassification
    was, pulled = (loader.from_pretrained(path) for path in (models[0], tmp_path / "out"))
    for name, tensor in was.state_dict().items():
        assert torch.equal(tensor, pulled.state_dict()[name])


def test_what_is_not_there_is_said(registry: Registry, models: list[Path]) -> None:
    registry.push("router", models[0])
    for reference in ("router@2", "router@live", "router", "nobody@1", "router@0", "@1"):
        with pytest.raises(VersionNotFoundError):
            registry.resolve(reference)
    with pytest.raises(VersionNotFoundError) as caught:
        registry.resolve("router@7")
    assert "its versions are 1" in caught.value.hint


def test_live_needs_a_report_on_this_version_against_what_is_live(
    registry: Registry, models: list[Path]
) -> None:
    for model in models[:3]:
        registry.push("router", model)
    with pytest.raises(PromotionError, match="needs a gate's report"):
        registry.set_alias("router@1", "live")
    with pytest.raises(PromotionError, match="this version is"):
        promote(registry, "router@1", models[1])
    with pytest.raises(PromotionError, match=r"refused it: 2\.0 points worse"):
        registry.set_alias("router@1", "live", report=gate_report(models[0], released=False))
    edited = gate_report(models[0]) | {"policy": {"waived": ["macro"]}}
    with pytest.raises(PromotionError, match="was edited"):
        registry.set_alias("router@1", "live", report=edited)
    with pytest.raises(PromotionError, match="not a gate's report"):
        registry.set_alias("router@1", "live", report={"decision": {"released": True}})
    assert registry.catalogue.aliases() == []
    promote(registry, "router@1", models[0])
    with pytest.raises(PromotionError, match="compared it with nothing"):
        promote(registry, "router@2", models[1])
    with pytest.raises(PromotionError, match="compared it with model"):
        promote(registry, "router@2", models[1], models[2])
    promote(registry, "router@2", models[1], models[0])
    last = registry.catalogue.entries()[-1]
    assert (last.action, last.version, last.previous, last.actor) == ("alias", 2, 1, "ada")
    assert not last.override
    assert registry.store.get(f"evidence/{last.evidence}.json") is not None
    assert registry.verify_journal() == 5


def test_an_override_stays_in_the_journal(registry: Registry, models: list[Path]) -> None:
    registry.push("router", models[0])
    refused = gate_report(models[0], released=False)
    registry.set_alias("router@1", "live", report=refused, override="the old one leaks")
    last = registry.catalogue.entries()[-1]
    assert last.override
    assert last.reason == "the old one leaks"
    assert len(last.evidence) == 64  # that it was refused can be looked up


def test_other_aliases_need_no_report(registry: Registry, models: list[Path]) -> None:
    registry.push("router", models[0])
    registry.set_alias("router@1", "canary", reason="look at it")
    assert registry.resolve("router@canary").version == 1
    with pytest.raises(RegistryError, match="taken for a version"):
        registry.set_alias("router@1", "12")
    registry.drop_alias("router", "canary", reason="seen")
    with pytest.raises(VersionNotFoundError):
        registry.drop_alias("router", "canary")
    assert [e.action for e in registry.catalogue.entries()] == ["push", "alias", "drop"]
    assert registry.verify_journal() == 3


def test_back_and_further_back(registry: Registry, models: list[Path]) -> None:
    filled(registry, models[:3])
    assert registry.rollback("router", reason="slow").version == 2
    assert registry.rollback("router", reason="still slow").version == 1
    with pytest.raises(VersionNotFoundError, match="nothing to go back to"):
        registry.rollback("router", reason="?")
    promote(registry, "router@3", models[2], models[0])
    entry = registry.rollback("router", reason="known good", to=1)
    assert (entry.version, entry.previous, entry.reason) == (1, 3, "known good")
    for to in (2, 3, 9, 1):  # 2 and 3 are no longer on the way back; 1 is where it stands
        with pytest.raises(VersionNotFoundError):
            registry.rollback("router", reason="?", to=to)
    with pytest.raises(VersionNotFoundError):
        registry.rollback("nobody", reason="?")
    assert registry.verify_journal() == len(registry.catalogue.entries())


def test_what_was_live_when(tmp_path: Path, models: list[Path]) -> None:
    registry = filled(open_at(tmp_path), models[:2])
    registry.rollback("router", reason="slow")
    moves = [e for e in registry.catalogue.entries() if e.alias == "live"]
    moments = [datetime.fromtimestamp(e.at_us / 1e6, UTC) for e in moves]
    soon = timedelta(microseconds=20)
    assert registry.live_at("router", moments[0] - DAY) == 0
    assert [registry.live_at("router", moment + soon) for moment in moments] == [1, 2, 1]
    registry.catalogue.close()


def test_roles_are_kept(tmp_path: Path, models: list[Path]) -> None:
    filled(open_at(tmp_path), models[:2]).catalogue.close()
    reader = open_at(tmp_path, actor=Actor("bo", frozenset(["read"])))
    assert reader.verify("router@live").version.version == 2
    for refused in (
        lambda: reader.push("router", models[2]),
        lambda: reader.set_alias("router@1", "canary"),
        lambda: reader.rollback("router", reason="x"),
        lambda: reader.gc(days=1, grace=DAY),
    ):
        with pytest.raises(ForbiddenError, match="bo may read"):
            refused()
    pusher = open_at(tmp_path, actor=Actor("ci", frozenset(["read", "push"])))
    pusher.push("router", models[2])
    pusher.set_alias("router@3", "canary")
    report = gate_report(models[2], live=models[1])
    with pytest.raises(ForbiddenError, match="needs promote"):
        pusher.set_alias("router@3", "live", report=report)
    with pytest.raises(ForbiddenError, match="needs promote"):
        pusher.drop_alias("router", "live")
    with pytest.raises(ForbiddenError):
        open_at(tmp_path, actor=Actor("nobody", frozenset()))
    for opened in (reader, pusher):
        opened.catalogue.close()


def test_a_promotion_that_was_overtaken_loses(tmp_path: Path, models: list[Path]) -> None:
    one, two = open_at(tmp_path), open_at(tmp_path, actor=Actor("bo"))
    filled(one, models[:1])
    for model in models[1:3]:
        one.push("router", model)
    # Both have seen version 1 live, and both gates compared with it.
    reports = [gate_report(model, live=models[0]) for model in models[1:3]]
    one.set_alias("router@2", "live", report=reports[0], expected=1)
    with pytest.raises(RegistryConflictError, match="is version 2 by now, not version 1"):
        two.set_alias("router@3", "live", report=reports[1], expected=1)
    assert one.resolve("router").version == 2
    one.catalogue.close()
    two.catalogue.close()


def keys(place: Path) -> tuple[Signer, str]:
    private, public = new_key_pair()
    (place / "sign.key").write_bytes(private)
    (place / "sign.pem").write_bytes(public)
    return Signer(place / "sign.key"), str(place / "sign.pem")


def test_only_what_a_trusted_key_signed_is_promoted_or_pulled(
    tmp_path: Path, models: list[Path]
) -> None:
    signer, public = keys(tmp_path)
    trusted = read_trusted(public)
    unsigned = open_at(tmp_path)
    unsigned.push("router", models[0])
    registry = open_at(tmp_path, signer=signer, trusted=trusted)
    for refused in (
        lambda: registry.set_alias("router@1", "live", override="now"),
        lambda: registry.set_alias("router@1", "canary"),
        lambda: registry.pull("router@1", tmp_path / "out"),
        lambda: registry.verify("router@1"),
    ):
        with pytest.raises(SignatureError, match="router@1: not signed"):
            refused()
    assert registry.push("router", models[0]).version == 1  # signs what was there
    assert registry.verify("router@1").signed_by == signer.key_id
    promote(registry, "router@1", models[0])
    registry.pull("router", tmp_path / "out")
    assert verify_directory(tmp_path / "out", trusted).answers == registry.resolve("router").answers
    (tmp_path / "other").mkdir()
    other, others = keys(tmp_path / "other")
    stranger = open_at(tmp_path, trusted=read_trusted(others))
    with pytest.raises(SignatureError, match="not trusted"):
        stranger.verify("router@1")
    open_at(tmp_path, signer=other).push("router", models[0])
    assert stranger.verify("router@1").signed_by == other.key_id
    assert registry.verify("router@1").signed_by == signer.key_id
    assert (tmp_path / "out" / SIGNATURE_FILE).exists()
    for opened in (unsigned, registry, stranger):
        opened.catalogue.close()


def test_a_tampered_store_is_refused_and_the_file_named(tmp_path: Path, models: list[Path]) -> None:
    signer, public = keys(tmp_path)
    registry = open_at(tmp_path, signer=signer, trusted=read_trusted(public))
    version = registry.push("router", models[0])
    manifest = registry.manifest(version)
    tokenizer = next(e for e in manifest.files if e.path == "tokenizer.json")
    blob = tmp_path / "store" / blob_key(tokenizer.sha256)
    whole = blob.read_bytes()
    blob.write_bytes(whole.replace(b"a", b"b", 1))
    for refused in (
        lambda: registry.verify("router@1"),
        lambda: registry.pull("router@1", tmp_path / "out"),
    ):
        with pytest.raises(DigestMismatchError, match=r"tokenizer\.json in the store"):
            refused()
    assert not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]
    blob.unlink()
    with pytest.raises(DigestMismatchError, match=r"tokenizer\.json is not in the store"):
        registry.set_alias("router@1", "canary")
    registry.push("router", models[0])  # heals it
    registry.verify("router@1")
    # A manifest exchanged for another model's, with all its files in place.
    other = registry.push("other", models[1])
    trees = tmp_path / "store" / "trees"
    shutil.copy(trees / f"{other.digest}.json", trees / f"{version.digest}.json")
    with pytest.raises(RegistryError, match="not the manifest of router@1"):
        registry.pull("router@1", tmp_path / "out")
    (trees / f"{version.digest}.json").unlink()
    with pytest.raises(RegistryUnavailableError, match="not in the store"):
        registry.verify("router@1")
    registry.catalogue.close()


def test_rows_that_were_edited_are_named(tmp_path: Path, models: list[Path]) -> None:
    registry = filled(open_at(tmp_path), models[:2])
    base = sqlite3.connect(tmp_path / "catalogue.db")
    for edit, undo, said in (
        (
            "UPDATE xlmr_aliases SET version = 1",
            "UPDATE xlmr_aliases SET version = 2",
            "router@live is version 1, and the journal says 2",
        ),
        (
            "UPDATE xlmr_versions SET digest = 'x' || digest WHERE version = 1",
            "UPDATE xlmr_versions SET digest = substr(digest, 2) WHERE version = 1",
            "router@1 is not what the journal says was pushed",
        ),
        (
            "UPDATE xlmr_journal SET reason = 'forged' WHERE seq = 3",
            "UPDATE xlmr_journal SET reason = '' WHERE seq = 3",
            "journal line 3 was edited",
        ),
    ):
        base.execute(edit)
        base.commit()
        with pytest.raises(JournalError, match=said):
            registry.verify_journal()
        base.execute(undo)
        base.commit()
        assert registry.verify_journal() == 4
    base.close()
    registry.catalogue.close()


def test_gc_removes_only_what_nothing_names(tmp_path: Path, models: list[Path]) -> None:
    long_ago = datetime.now(UTC) - 100 * DAY
    registry = filled(open_at(tmp_path), models[:3])
    registry.push("router", models[3])
    registry.set_alias("router@4", "canary")
    registry.push("other", models[0])
    later = open_at(tmp_path, now=lambda: datetime.now(UTC) + 100 * DAY)
    assert registry.gc(days=90, grace=DAY).versions == ()  # the journal names all
    told = later.gc(days=90, grace=DAY, dry=True)
    # 3 is live, 2 is the way back, 4 the canary: 1 goes, and `other` that no alias names.
    assert [(v.name, v.version) for v in told.versions] == [("other", 1), ("router", 1)]
    assert all(v.removed_us == 0 for v in registry.catalogue.versions())
    removed = later.gc(days=90, grace=DAY)
    assert (removed.versions, removed.blobs, removed.size_bytes) == (
        told.versions,
        told.blobs,
        told.size_bytes,
    )
    assert removed.blobs == 1  # the rest is shared with those that stay
    for number in (2, 3, 4):
        later.verify(f"router@{number}")
    with pytest.raises(VersionNotFoundError, match="was removed"):
        later.resolve("router@1")
    assert [e.action for e in registry.catalogue.entries()][-2:] == ["remove", "remove"]
    assert registry.verify_journal() == len(registry.catalogue.entries())
    assert later.gc(days=90, grace=DAY).versions == ()
    assert registry.rollback("router", reason="x").version == 2
    # What was removed may be pushed again; it gets a number of its own.
    assert registry.push("router", models[0]).version == 5
    assert long_ago < datetime.now(UTC)
    for opened in (registry, later):
        opened.catalogue.close()


def test_gc_leaves_what_somebody_is_pushing(tmp_path: Path, models: list[Path]) -> None:
    registry = open_at(tmp_path)
    registry.push("router", models[0])
    registry.store.put("blobs/ab/" + "ab" * 32, b"on its way")
    assert registry.gc(days=0, grace=DAY).blobs == 0
    os.utime(tmp_path / "store" / "blobs" / "ab" / ("ab" * 32), (1, 1))
    assert registry.gc(days=0, grace=DAY).blobs == 1
    registry.catalogue.close()


def test_gc_removes_nothing_when_it_cannot_know(tmp_path: Path, models: list[Path]) -> None:
    registry = filled(open_at(tmp_path), models[:2])
    (tmp_path / "store" / "trees" / f"{registry.resolve('router').digest}.json").write_text("{")
    before = [kept.key for kept in registry.store.list("blobs")]
    with pytest.raises(RegistryError, match="no manifest"):
        registry.gc(days=0, grace=timedelta(0))
    assert [kept.key for kept in registry.store.list("blobs")] == before
    registry.catalogue.close()


def test_a_push_whose_files_are_collected_meanwhile_stores_them_again(
    tmp_path: Path, models: list[Path]
) -> None:
    taken: list[str] = []

    def take(name: str) -> None:
        blobs = list((tmp_path / "store" / "blobs").glob("*/*"))
        if name == "stored trees" and not taken:
            taken.append(blobs[0].name)
            blobs[0].unlink()

    registry = Registry(
        Catalogue(str(tmp_path / "catalogue.db")),
        Store(str(tmp_path / "store"), step=take),
        Actor("ada"),
    )
    registry.push("router", models[0])
    assert taken
    registry.verify("router@1")
    registry.catalogue.close()
