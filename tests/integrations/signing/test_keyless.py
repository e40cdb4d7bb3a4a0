"""Signatures with an identity in the place of a key, against a Sigstore of our own, offline."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integrations.signing.keyless import ISSUER, Sigstore

from xlmr.errors import SettingsError, SignatureError
from xlmr.registry.digest import tree_digest
from xlmr.registry.manifest import MANIFEST_FILE, SIGNATURE_FILE, Manifest, hash_files
from xlmr.registry.signature import Signer, new_key_pair, read_trusted, verify_directory

PIPELINE = "release@acme.example"
# Certificates last for minutes: a signature has to hold long after.
LAST_YEAR = datetime.now(UTC) - timedelta(days=365)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("it asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def sigstore() -> Sigstore:
    return Sigstore(LAST_YEAR)


@pytest.fixture
def place(tmp_path: Path, sigstore: Sigstore, offline: None) -> Path:
    """A model that the pipeline has signed, and who is trusted."""
    model = tmp_path / "model"
    (model / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "1_Pooling/config.json"):
        (model / name).write_text(name)
    files = tuple(sorted(hash_files(model)))
    manifest = Manifest(digest=tree_digest(files), answers="", tokenizer="", tasks=(), files=files)
    (model / MANIFEST_FILE).write_bytes(manifest.to_bytes())
    (model / SIGNATURE_FILE).write_bytes(
        sigstore.sign(statement(tmp_path, manifest), identity=PIPELINE)
    )
    trust(tmp_path, sigstore)
    return tmp_path


def statement(place: Path, manifest: Manifest) -> bytes:
    """The same statement as with a key."""
    private, _ = new_key_pair()
    (place / "unused.key").write_bytes(private)
    bundle = json.loads(Signer(place / "unused.key").sign(manifest.files, name="router"))
    return base64.b64decode(bundle["dsseEnvelope"]["payload"])


def trust(place: Path, sigstore: Sigstore, *, name: str = PIPELINE, issuer: str = ISSUER) -> Path:
    keys = place / "keys"
    keys.mkdir(exist_ok=True)
    (keys / "trusted_root.json").write_text(json.dumps(sigstore.trusted_root()))
    (keys / "identities.toml").write_text(
        'trust_root = "trusted_root.json"\n'
        '[[identity]]\nname = "somebody@else.example"\nissuer = "https://else.example"\n'
        f'[[identity]]\nname = "{name}"\nissuer = "{issuer}"\n'
    )
    return keys


def verify(place: Path) -> Manifest:
    return verify_directory(place / "model", read_trusted(str(place / "keys")))


def test_what_a_trusted_identity_signed_is_accepted(place: Path) -> None:
    assert len(verify(place).files) == 3
    # Beside keys, too: one of the two is enough.
    _, public = new_key_pair()
    (place / "keys" / "ours.pem").write_bytes(public)
    verify(place)


def test_altered_files_are_named(place: Path) -> None:
    (place / "model" / "config.json").write_text("altered")
    with pytest.raises(SignatureError, match=r"config\.json was altered"):
        verify(place)


def test_others_are_refused(place: Path, sigstore: Sigstore) -> None:
    for changed in ({"name": "intern@acme.example"}, {"issuer": "https://other.example"}):
        trust(place, sigstore, **changed)
        with pytest.raises(SignatureError, match="no keyless signature of a trusted identity"):
            verify(place)
    # Another Sigstore vouches for the same identity; ours does not know it.
    trust(place, Sigstore(LAST_YEAR))
    with pytest.raises(SignatureError, match="no keyless signature"):
        verify(place)


def payload_of(bundle: dict[str, Any]) -> None:
    said = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    said["predicate"]["resources"][0]["digest"] = "0" * 64
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(said).encode()).decode()


def log_time(bundle: dict[str, Any]) -> None:
    entry = bundle["verificationMaterial"]["tlogEntries"][0]
    entry["integratedTime"] = str(int(entry["integratedTime"]) + 30)


def log_entry(bundle: dict[str, Any]) -> None:
    bundle["verificationMaterial"]["tlogEntries"] = []


def root_hash(bundle: dict[str, Any]) -> None:
    proof = bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
    proof["rootHash"] = base64.b64encode(bytes(32)).decode()


def certificate(bundle: dict[str, Any]) -> None:
    bundle["verificationMaterial"]["certificate"]["rawBytes"] = "AAAA"


@pytest.mark.parametrize("forge", [payload_of, log_time, log_entry, root_hash, certificate])
def test_a_forged_bundle_is_refused(place: Path, forge: Callable[[dict[str, Any]], None]) -> None:
    path = place / "model" / SIGNATURE_FILE
    bundle = json.loads(path.read_text())
    forge(bundle)
    path.write_text(json.dumps(bundle))
    with pytest.raises(SignatureError, match="no keyless signature"):
        verify(place)


def test_a_signature_entered_after_the_certificate_had_ended(
    place: Path, sigstore: Sigstore
) -> None:
    payload = base64.b64decode(
        json.loads((place / "model" / SIGNATURE_FILE).read_text())["dsseEnvelope"]["payload"]
    )
    late = sigstore.sign(payload, identity=PIPELINE, entered=timedelta(hours=1))
    (place / "model" / SIGNATURE_FILE).write_bytes(late)
    with pytest.raises(SignatureError, match="no keyless signature"):
        verify(place)


def test_a_key_is_not_asked_about_an_identity(place: Path) -> None:
    _, public = new_key_pair()
    (place / "ours.pem").write_bytes(public)
    with pytest.raises(SignatureError, match="not trusted"):
        verify_directory(place / "model", read_trusted(str(place / "ours.pem")))


@pytest.mark.parametrize("said", ["", "trust_root = 1", 'trust_root = "x"\nidentity = []', "]"])
def test_what_cannot_be_understood(place: Path, said: str) -> None:
    (place / "keys" / "identities.toml").write_text(said)
    with pytest.raises(SettingsError, match=r"identities\.toml"):
        read_trusted(str(place / "keys"))


@pytest.mark.parametrize("content", ["", "{}", '{"mediaType": "x"}', None])
def test_a_root_that_is_none(place: Path, content: str | None) -> None:
    root = place / "keys" / "trusted_root.json"
    root.unlink() if content is None else root.write_text(content)
    with pytest.raises(SettingsError, match=r"trusted_root\.json"):
        verify(place)
