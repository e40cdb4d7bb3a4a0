"""`xlmr registry` as it is typed: from the first push to the last backup."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.registry.parts import gate_report, small_models

from xlmr.cli.main import cli
from xlmr.errors import (
    DataError,
    DigestMismatchError,
    ForbiddenError,
    PromotionError,
    RegistryError,
    SettingsError,
    SignatureError,
    XlmrError,
)
from xlmr.registry.manifest import make_manifest


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return small_models(tmp_path_factory.mktemp("models"), 2)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XLMR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XLMR_REGISTRY", str(tmp_path / "registry"))
    return tmp_path


def registry(*words: object) -> Result:
    return CliRunner().invoke(cli, ["registry", *map(str, words)])


def said(*words: object) -> str:
    done = registry(*words)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def refused(kind: type[XlmrError], *words: object) -> str:
    done = registry(*words)
    assert isinstance(done.exception, kind), (done.output, done.exception)
    return str(done.exception)


def write_report(path: Path, model: Path, live: Path | None = None) -> Path:
    path.write_text(json.dumps(gate_report(model, live=live)))
    return path


def test_a_version_from_push_to_backup(place: Path, models: list[Path]) -> None:
    assert "no versions yet" in said("list")
    assert said("push", "router", models[0], "--reason", "first").startswith("router@1  ")
    assert json.loads(said("push", "router", models[1], "--json"))["version"] == 2
    first = write_report(place / "one.json", models[0])
    assert "live: none → 1" in said("alias", "router@1", "live", "--report", first)
    second = write_report(place / "two.json", models[1], models[0])
    said("alias", "router@2", "live", "--report", second, "--expect", 1)
    (one, two) = json.loads(said("list", "--json"))
    assert (one["aliases"], two["aliases"]) == ([], ["live"])
    assert "router@2  live" in said("list", "router")
    shown = said("show", "router")
    assert "code       revision 2" in shown
    assert make_manifest(models[1]).digest in shown
    assert json.loads(said("show", "router@1", "--json"))["manifest"]["format"] == 1
    said("pull", "router", "--out", place / "out")
    assert make_manifest(place / "out") == make_manifest(models[1])
    checked = said("verify")
    assert "journal: 4 lines, whole" in checked
    assert checked.count("files") == 2
    assert "live: 2 → 1" in said("rollback", "router", "--reason", "slow")
    lines = json.loads(said("journal", "router", "--alias", "live", "--json"))
    assert [line["version"] for line in lines] == [1, 2, 1]
    assert "rollback router@live: 2 → 1" in said("journal")
    assert said("journal", "router", "--at", "2999-01-01T00:00Z").strip() == "1"
    assert said("journal", "router", "--at", "2001-01-01").strip() == "none"
    assert "would remove 0 files" in said("gc", "--dry-run")
    taken = json.loads(said("backup", place / "backup", "--json"))
    anchor = f"{taken['line']}:{taken['hash']}"
    assert "whole" in said("verify", "router@1", "--anchor", anchor)
    forged = f"{taken['line']}:{'0' * 64}"
    assert "not the one that was noted" in refused(RegistryError, "verify", "--anchor", forged)
    assert "not empty" in refused(RegistryError, "restore", place / "backup")
    new = ("--registry", place / "new")
    assert "2 versions" in said("restore", place / "backup", *new)
    said("verify", *new)


def test_what_is_refused_says_what_to_do(place: Path, models: list[Path]) -> None:
    said("push", "router", models[0])
    assert "--override REASON" in refused(PromotionError, "alias", "router@1", "live")
    for content, kind in (("{", DataError), ("[]", DataError), ("{}", PromotionError)):
        (place / "bad.json").write_text(content)
        refused(kind, "alias", "router@1", "live", "--report", place / "bad.json")
    refused(DataError, "alias", "router@1", "live", "--report", place / "none.json")
    said("alias", "router@1", "live", "--override", "there is no data yet")
    assert "OVERRIDE: there is no data yet" in said("journal")
    assert registry("rollback", "router").exit_code == 2  # a reason is needed
    assert registry("journal", "--at", "2001-01-01").exit_code == 2
    assert "no time" in refused(SettingsError, "journal", "router", "--at", "noon")
    assert registry("verify", "--anchor", "x").exit_code == 2
    assert "artifacts lie" in refused(SettingsError, "list", "--registry", "sqlite:///x.db")
    said("alias", "router@1", "old")
    assert "old: 1 → none" in said("alias", "router", "old", "--drop")


def test_signed_and_sealed(
    place: Path, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    said("keygen", place / "keys")
    assert (place / "keys" / "sign.key").stat().st_mode & 0o777 == 0o600
    assert "never replaced" in refused(SettingsError, "keygen", place / "keys")
    (place / "theirs").mkdir()
    (place / "theirs" / "sign.pem").write_text("a key that is trusted")
    assert "never replaced" in refused(SettingsError, "keygen", place / "theirs")
    assert [path.name for path in (place / "theirs").iterdir()] == ["sign.pem"]
    monkeypatch.setenv("XLMR_SEAL_KEY", "ab" * 32)
    monkeypatch.setenv("XLMR_TRUSTED_KEYS", str(place / "keys"))
    said("push", "router", models[0], "--sign-key", place / "keys" / "sign.key")
    said("push", "router", models[1])
    assert "signed with" in said("verify", "router@1")
    assert "router@2: not signed" in refused(
        SignatureError, "pull", "router@2", "--out", place / "x"
    )
    said("pull", "router@1", "--out", place / "out")
    monkeypatch.delenv("XLMR_SEAL_KEY")
    assert "sealed" in refused(RegistryError, "verify", "router@1")


def test_roles(place: Path, models: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "roles.toml").write_text(
        '[ci]\nroles = ["push"]\n'
        'key = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"\n'  # secret
    )
    monkeypatch.setenv("XLMR_REGISTRY_ROLES", str(place / "roles.toml"))
    refused(ForbiddenError, "push", "router", models[0])
    monkeypatch.setenv("XLMR_REGISTRY_KEY", "secret")
    said("push", "router", models[0], "--as", "ci")
    assert "needs promote" in refused(ForbiddenError, "gc", "--as", "ci")
    assert "needs promote" in refused(ForbiddenError, "restore", place, "--as", "ci")
    assert "ci" in said("journal", "--as", "ci")


def test_what_a_version_comes_from(place: Path, models: list[Path]) -> None:
    said("push", "starter", models[0])
    smaller = place / "smaller"
    shutil.copytree(models[0], smaller)
    data = [{"split": "train", "file": "en.train.jsonl", "rows": 40, "sha256": "d" * 64}]
    origin = {"method": "lora", "seed": 3, "code": "c" * 64, "options": {"epochs": 2}, "data": data}
    parent = json.loads(said("show", "starter@1", "--json"))["answers"]
    origin["compressed"] = [{"parent": {"name": "starter", "digest": parent}}]
    (smaller / "xlmr.json").write_text(json.dumps({"format": 1, "note": 1, "lineage": origin}))
    done = registry("push", "router", smaller)
    assert "note: README.md names no licence and there is no LICENSE file" in done.stderr
    report = write_report(place / "gate.json", smaller)
    said("alias", "router@1", "live", "--report", report)
    shown = said("show", "router")
    assert "recipe     lora, seed 3, options " in shown
    assert f"code       {'c' * 64}" in shown
    assert f"data       train en.train.jsonl, 40 rows, {'d' * 64}" in shown
    assert f"parent     starter {parent} (starter@1)" in shown
    assert "licence    not stated" in shown
    (line,) = json.loads(said("show", "router", "--json"))["evidence"]
    assert f"evidence   line 3, alias router@live: none → 1: {line['evidence']}" in shown
    assert "router@1 has no card" in said("show", "router", "--card")


def test_a_card_and_a_licence_stay_with_a_version(place: Path, models: list[Path]) -> None:
    model = place / "carded"
    shutil.copytree(models[0], model)
    (model / "README.md").write_text("---\nlicense: mit\n---\n# Router\n\nIt *routes*.\x1b[2J\n")
    done = registry("push", "router", model)
    assert done.stderr.endswith("note: there is no LICENSE file\n")
    (model / "LICENSE.txt").write_text("Permission is hereby granted")
    done = registry("push", "router", model, "--json")
    assert "note" not in done.stderr
    assert json.loads(done.stdout)["license_gaps"] == []
    assert "licence    mit" in said("show", "router@2")
    card = said("show", "router@2", "--card")
    assert "license: mit" in card
    assert "It routes." in card
    assert "\x1b[2J" not in card
    assert "It *routes*." in json.loads(said("show", "router@2", "--card", "--json"))["card"]
    said("pull", "router@2", "--out", place / "out")
    said("export", "router@2", "--to", f"hf:{place}/hf")
    for copy in (place / "out", place / "hf"):
        assert (copy / "LICENSE.txt").read_text() == "Permission is hereby granted"
        assert (copy / "README.md").read_bytes() == (model / "README.md").read_bytes()


def test_handed_over_and_taken_back(place: Path, models: list[Path]) -> None:
    said("keygen", place / "keys")
    said("push", "router", models[0], "--sign-key", place / "keys" / "sign.key")
    to = f"hf:{place}/hf"
    assert f"router@1 is in {to}" in said("export", "router@1", "--to", to)
    there = ("--registry", place / "there")
    trusted = ("--trusted-keys", place / "keys")
    digest = json.loads(said("show", "router@1", "--json"))["digest"]
    assert said("import", "theirs", "--from", to, *there) == f"theirs@1  {digest}\n"
    assert "signed with" in said("verify", "theirs@1", *there, *trusted)
    (place / "hf" / "tokenizer.json").write_text("{}")
    assert "tokenizer.json is another tokenizer" in refused(
        DigestMismatchError, "import", "theirs", "--from", to, *there
    )
    assert "hf:DIRECTORY" in refused(RegistryError, "export", "router@1", "--to", "ftp:x")


def test_a_signature_made_elsewhere(place: Path, models: list[Path]) -> None:
    said("keygen", place / "keys")
    said("push", "router", models[0], "--sign-key", place / "keys" / "sign.key")
    said("pull", "router@1", "--out", place / "out")
    signature = place / "out" / "model.sig"
    there = ("--registry", place / "there")
    said("push", "router", models[0], "--signature", signature, *there)
    assert "signed with" in said("verify", *there, "--trusted-keys", place / "keys")
    assert "not what was signed" in refused(
        SignatureError, "push", "router", models[1], "--signature", signature, *there
    )
