"""Signed means: these files, this key. What differs is refused, and named."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.tiny import tiny_model

from xlmr.errors import MissingExtraError, RegistryError, SettingsError, SignatureError
from xlmr.registry.manifest import MANIFEST_FILE, SIGNATURE_FILE, make_manifest
from xlmr.registry.signature import (
    Signer,
    check_signed,
    new_key_pair,
    read_trusted,
    verify_directory,
)


def write_keys(place: Path, name: str) -> tuple[Path, Path]:
    private, public = new_key_pair()
    (place / f"{name}.key").write_bytes(private)
    (place / f"{name}.pem").write_bytes(public)
    return place / f"{name}.key", place / f"{name}.pem"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two keys, and a model that the first has signed."""
    write_keys(tmp_path, "ours")
    write_keys(tmp_path, "theirs")
    tiny_model(tmp_path, "classify")
    model = tmp_path / "classify"
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "note.json").write_text("{}")
    sign(model, tmp_path / "ours.key")
    return tmp_path


def sign(model: Path, key: Path) -> None:
    manifest = make_manifest(model)
    (model / MANIFEST_FILE).write_bytes(manifest.to_bytes())
    (model / SIGNATURE_FILE).write_bytes(Signer(key).sign(manifest.files, name="router"))


def test_what_was_signed_is_accepted(place: Path) -> None:
    model = place / "classify"
    manifest = verify_directory(model, read_trusted(str(place / "ours.pem")))
    assert manifest == make_manifest(model)
    everybody = read_trusted(str(place))  # a directory of keys
    assert len(everybody) == 2
    signature = (model / SIGNATURE_FILE).read_bytes()
    assert (
        check_signed(manifest, signature, everybody, origin="x")
        == Signer(place / "ours.key").key_id
    )


def test_another_key_is_refused(place: Path) -> None:
    with pytest.raises(SignatureError, match="which is not trusted"):
        verify_directory(place / "classify", read_trusted(str(place / "theirs.pem")))
    with pytest.raises(SignatureError, match="not trusted"):
        verify_directory(place / "classify", ())


def test_no_signature_and_no_manifest_are_refused(place: Path) -> None:
    trusted = read_trusted(str(place / "ours.pem"))
    (place / "classify" / SIGNATURE_FILE).rename(place / "kept")
    with pytest.raises(SignatureError, match="not signed"):
        verify_directory(place / "classify", trusted)
    (place / "classify" / MANIFEST_FILE).unlink()
    with pytest.raises(RegistryError, match="no xlmr-manifest"):
        verify_directory(place / "classify", trusted)


def test_a_tampered_file_is_named(place: Path) -> None:
    model, trusted = place / "classify", read_trusted(str(place / "ours.pem"))
    (model / "config.json").write_text((model / "config.json").read_text() + " ")
    with pytest.raises(SignatureError, match=r"config\.json was altered"):
        verify_directory(model, trusted)
    # A manifest to match does not help, and neither does another's signature.
    (model / MANIFEST_FILE).write_bytes(make_manifest(model).to_bytes())
    with pytest.raises(SignatureError, match=r"config\.json was altered"):
        verify_directory(model, trusted)
    sign(model, place / "theirs.key")
    with pytest.raises(SignatureError, match="not trusted"):
        verify_directory(model, trusted)


def test_a_swapped_tokenizer_is_named(place: Path) -> None:
    model, trusted = place / "classify", read_trusted(str(place / "ours.pem"))
    told = json.loads((model / "tokenizer.json").read_text())
    told["model"]["vocab"][5], told["model"]["vocab"][6] = (
        told["model"]["vocab"][6],
        told["model"]["vocab"][5],
    )
    (model / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(SignatureError, match=r"tokenizer\.json is another tokenizer"):
        verify_directory(model, trusted)


def test_files_that_came_or_went_are_named(place: Path) -> None:
    model, trusted = place / "classify", read_trusted(str(place / "ours.pem"))
    (model / "xlmr-native-int8.weights").write_bytes(b"prepared by a server")
    verify_directory(model, trusted)
    (model / "1_Pooling" / "note.json").unlink()
    (model / "run.py").write_text("import os")
    with pytest.raises(SignatureError, match=r"1_Pooling/note\.json is missing, run\.py was added"):
        verify_directory(model, trusted)


def test_a_manifest_of_another_model_is_refused(place: Path) -> None:
    model = place / "classify"
    tiny_model(place, "tag")
    (model / MANIFEST_FILE).write_bytes(make_manifest(place / "tag").to_bytes())
    with pytest.raises(SignatureError, match="not what was signed"):
        verify_directory(model, read_trusted(str(place / "ours.pem")))


def test_an_altered_signature_is_refused(place: Path) -> None:
    model, trusted = place / "classify", read_trusted(str(place / "ours.pem"))
    bundle = json.loads((model / SIGNATURE_FILE).read_text())
    envelope = bundle["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"]).replace(b"config.json", b"konfig.json")
    forged = bundle | {"dsseEnvelope": envelope | {"payload": base64.b64encode(payload).decode()}}
    other = Signer(place / "theirs.key").sign(make_manifest(model).files, name="router")
    hint = bundle["verificationMaterial"]
    for told in (forged, json.loads(other) | {"verificationMaterial": hint}):
        (model / SIGNATURE_FILE).write_text(json.dumps(told))
        with pytest.raises(SignatureError, match="signature was altered"):
            verify_directory(model, trusted)
    for nonsense in (b"", b"{}", b"[1]", b"\xff", b'{"dsseEnvelope": 3}', b"[" * 100_000):
        (model / SIGNATURE_FILE).write_bytes(nonsense)
        with pytest.raises(SignatureError, match="no signature bundle"):
            verify_directory(model, trusted)


def test_keys_of_other_kinds_are_refused(place: Path) -> None:
    plain = (form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    (place / "rsa.key").write_bytes(
        rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(*plain)
    )
    koblitz = ec.generate_private_key(ec.SECP256K1())
    (place / "k1.key").write_bytes(koblitz.private_bytes(*plain))
    for name in ("rsa.key", "k1.key", "ours.pem", "none"):
        with pytest.raises(SettingsError, match=name):
            Signer(place / name)
    with pytest.raises(SettingsError, match="private key stays"):
        read_trusted(str(place / "ours.key"))
    for empty in (place / "classify", place / "none"):
        with pytest.raises(SettingsError):
            read_trusted(str(empty))
    assert read_trusted("") == ()


def test_a_locked_key_needs_its_password(place: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    locked = form.BestAvailableEncryption(b"open")
    data = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, locked)
    (place / "locked.key").write_bytes(data)
    assert Signer(place / "locked.key", password="open").key_id
    for wrong in ("", "shut"):
        with pytest.raises(SettingsError, match="locked"):
            Signer(place / "locked.key", password=wrong)


def test_identities_are_not_trusted_by_halves(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what checks them, a file that names them is not passed over."""
    (place / "identities.toml").write_text(
        'trust_root = "root.json"\n[[identity]]\nname = "a@b"\nissuer = "https://c"\n'
    )
    monkeypatch.setitem(sys.modules, "sigstore.errors", None)
    with pytest.raises(MissingExtraError) as caught:
        read_trusted(str(place))
    assert "xlmr[keyless]" in caught.value.hint
