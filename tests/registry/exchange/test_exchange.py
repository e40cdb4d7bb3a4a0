"""What is handed over and taken back is the same version; what was changed on the way is named."""

from __future__ import annotations

import copy
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transformers
from tests.registry.parts import gate_report, open_at, small_models

from xlmr.errors import (
    DigestMismatchError,
    ForbiddenError,
    MissingExtraError,
    ModelError,
    RegistryError,
    SignatureError,
)
from xlmr.registry.exchange import exchange_at, export_version, import_version
from xlmr.registry.manifest import MANIFEST_FILE, SIGNATURE_FILE, make_manifest, read_manifest
from xlmr.registry.registry import Registry
from xlmr.registry.roles import Actor
from xlmr.registry.signature import Signer, new_key_pair, read_trusted

CARD = "---\nlicense: mit\n---\n# Router\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The first has no card, the second a card and a licence."""
    models = small_models(tmp_path_factory.mktemp("models"), 2)
    (models[1] / "README.md").write_text(CARD)
    (models[1] / "LICENSE").write_text("Permission is hereby granted")
    return models


@pytest.fixture
def registry(tmp_path: Path, models: list[Path]) -> Iterator[Registry]:
    """Both models pushed and signed; the first is live."""
    private, public = new_key_pair()
    (tmp_path / "sign.key").write_bytes(private)
    (tmp_path / "sign.pem").write_bytes(public)
    opened = open_at(tmp_path, signer=Signer(tmp_path / "sign.key"))
    for model in models:
        opened.push("router", model)
    opened.set_alias("router@1", "live", report=gate_report(models[0]))
    yield opened
    opened.catalogue.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Registry]:
    """An empty registry that trusts the first one's key, and signs nothing itself."""
    trusted = read_trusted(str(tmp_path / "sign.pem"))
    opened = open_at(tmp_path / "other", trusted=trusted, actor=Actor("bo"))
    yield opened
    opened.catalogue.close()


def send(registry: Registry, reference: str, place: str, *, force: bool = False) -> Path:
    version = registry.resolve(reference)
    sent = export_version(registry, version, exchange_at(place, force=force))
    assert sent.place == place
    return Path(place.partition(":")[2])


@pytest.mark.parametrize("number", [1, 2])
def test_a_version_comes_back_as_what_it_was(
    registry: Registry, other: Registry, tmp_path: Path, number: int
) -> None:
    place = f"hf:{tmp_path}/out"
    send(registry, f"router@{number}", place)
    came = import_version(other, "theirs", exchange_at(place), reason="for the audit")
    was = registry.resolve(f"router@{number}")
    assert (came.digest, came.answers, came.version) == (was.digest, was.answers, 1)
    assert other.manifest(came) == registry.manifest(was)
    # Its signature came along: what bo could not sign is trusted, and may be pulled.
    assert other.verify("theirs@1").signed_by == Signer(tmp_path / "sign.key").key_id
    assert other.catalogue.entries()[-1].reason == f"from {place}: for the audit"
    # Once more changes nothing.
    assert import_version(other, "theirs", exchange_at(place)) == came


def test_a_hub_finds_files_card_and_licence_where_it_looks_for_them(
    registry: Registry, tmp_path: Path, models: list[Path]
) -> None:
    out = send(registry, "router@2", f"hf:{tmp_path}/two")
    names = {path.name for path in out.iterdir()}
    own = {entry.path for entry in make_manifest(models[1]).files}
    assert names == own | {MANIFEST_FILE, SIGNATURE_FILE}
    assert (out / "README.md").read_text() == CARD
    assert (out / "LICENSE").read_bytes() == (models[1] / "LICENSE").read_bytes()
    assert transformers.AutoConfig.from_pretrained(out).model_type == "xlm-roberta"
    # A version without a card gets one for its readers, which says what is known.
    bare = send(registry, "router@1", f"hf:{tmp_path}/one")
    card = (bare / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\ntags:\n- xlm-roberta\n")
    assert registry.resolve("router@1").digest in card
    assert "revision 1" in card
    assert "\nlicense:" not in card


def test_a_directory_is_replaced_only_when_asked(registry: Registry, tmp_path: Path) -> None:
    out = send(registry, "router@1", f"hf:{tmp_path}/out")
    with pytest.raises(ModelError, match="exists"):
        send(registry, "router@2", f"hf:{out}")
    assert read_manifest(out).digest == registry.resolve("router@1").digest
    send(registry, "router@2", f"hf:{out}", force=True)
    assert read_manifest(out).digest == registry.resolve("router@2").digest


def test_what_was_changed_on_the_way_is_named(
    registry: Registry, other: Registry, tmp_path: Path, models: list[Path]
) -> None:
    out = send(registry, "router@2", f"hf:{tmp_path}/out")
    exchange = exchange_at(f"hf:{out}")

    def refused(match: str, kind: type[Exception] = DigestMismatchError) -> None:
        with pytest.raises(kind, match=match):
            import_version(other, "theirs", exchange)
        shutil.rmtree(out)
        send(registry, "router@2", f"hf:{out}")

    tokenizer = out / "tokenizer.json"
    tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text()) | {"version": "2"}))
    refused(r"tokenizer\.json is another tokenizer")
    (out / "README.md").write_text(CARD.replace("mit", "wtfpl"))
    refused(r"README\.md was altered")
    (out / "LICENSE").unlink()
    refused("LICENSE is missing")
    (out / "modeling.py").write_text("import os")
    refused(r"modeling\.py was added")
    (out / MANIFEST_FILE).unlink()
    refused(f"no {MANIFEST_FILE}", RegistryError)
    # Files and manifest of one version, the signature of another.
    one = send(registry, "router@1", f"hf:{tmp_path}/one")
    shutil.copy(one / SIGNATURE_FILE, out / SIGNATURE_FILE)
    refused("not what was signed", SignatureError)
    (out / SIGNATURE_FILE).write_text("{}")
    refused("no signature bundle", SignatureError)
    assert other.catalogue.versions() == []
    assert not list(other.store.list("signatures"))
    # Unsigned it comes in, and stays what it is: nobody trusts it.
    (out / SIGNATURE_FILE).unlink()
    import_version(other, "theirs", exchange)
    with pytest.raises(SignatureError, match="not signed"):
        other.pull("theirs@1", tmp_path / "pulled")


def test_a_signature_is_kept_under_no_name_of_its_own_choice(
    registry: Registry, tmp_path: Path
) -> None:
    """Neither elsewhere in the store, nor in the place of the signature of the key it names."""
    out = send(registry, "router@2", f"hf:{tmp_path}/out")
    path = out / SIGNATURE_FILE
    version, true = registry.resolve("router@2"), json.loads(path.read_text())
    before = {kept.key for kept in registry.store.list("")}
    for number, hint in enumerate(("../../../trees/evil", true_hint(true)), start=1):
        forged = copy.deepcopy(true)
        forged["verificationMaterial"]["publicKey"]["hint"] = hint
        forged["dsseEnvelope"]["signatures"][0]["sig"] = "AAAA"
        path.write_text(json.dumps(forged))
        assert import_version(registry, "router", exchange_at(f"hf:{out}")) == version
        added = {kept.key for kept in registry.store.list("")} - before
        assert len(added) == number
        assert all(re.fullmatch(f"signatures/{version.digest}/[0-9a-f]+.sig", key) for key in added)
    trusting = open_at(tmp_path, trusted=read_trusted(str(tmp_path / "sign.pem")))
    assert trusting.verify("router@2").signed_by == true_hint(true)
    trusting.catalogue.close()


def true_hint(bundle: dict[str, Any]) -> str:
    return str(bundle["verificationMaterial"]["publicKey"]["hint"])


def test_who_may_not_push_may_not_import(registry: Registry, tmp_path: Path) -> None:
    place = f"hf:{tmp_path}/out"
    reader = open_at(tmp_path, actor=Actor("bo", frozenset(["read"])))
    send(reader, "router@1", place)
    with pytest.raises(ForbiddenError, match="needs push"):
        import_version(reader, "theirs", exchange_at(place))
    reader.catalogue.close()


@pytest.mark.parametrize("place", ["", "hf:", "somewhere", "s3://x", "mlflow:"])
def test_a_place_that_is_not_known(place: str) -> None:
    with pytest.raises(RegistryError, match="no such place"):
        exchange_at(place)


def test_a_client_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError) as caught:
        exchange_at("mlflow:router")
    assert "xlmr[mlflow]" in caught.value.hint
