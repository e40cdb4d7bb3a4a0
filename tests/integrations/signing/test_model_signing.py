"""Our signatures and those of the format's own tool: each reads the other's."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_signing import hashing, signing, verifying

from xlmr.errors import SignatureError
from xlmr.registry.digest import tree_digest
from xlmr.registry.manifest import MANIFEST_FILE, SIGNATURE_FILE, Manifest, hash_files
from xlmr.registry.signature import Signer, new_key_pair, read_trusted, verify_directory


@pytest.fixture
def place(tmp_path: Path) -> Path:
    private, public = new_key_pair()
    (tmp_path / "ours.key").write_bytes(private)
    (tmp_path / "ours.pem").write_bytes(public)
    model = tmp_path / "model"
    (model / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "1_Pooling/config.json"):
        (model / name).write_text(name)
    write_manifest(model)
    return tmp_path


def write_manifest(model: Path) -> Manifest:
    files = tuple(sorted(hash_files(model)))
    manifest = Manifest(digest=tree_digest(files), answers="", tokenizer="", tasks=(), files=files)
    (model / MANIFEST_FILE).write_bytes(manifest.to_bytes())
    return manifest


def judge(place: Path) -> verifying.Config:
    return verifying.Config().use_elliptic_key_verifier(public_key=place / "ours.pem")


def test_it_reads_ours(place: Path) -> None:
    model, signature = place / "model", place / "model" / SIGNATURE_FILE
    manifest = write_manifest(model)
    signature.write_bytes(Signer(place / "ours.key").sign(manifest.files, name="router"))
    judge(place).verify(model, signature)
    (model / "config.json").write_text("altered")
    with pytest.raises(ValueError, match=r"config\.json"):
        judge(place).verify(model, signature)


def test_we_read_its(place: Path) -> None:
    model, signature = place / "model", place / "model" / SIGNATURE_FILE
    config = hashing.Config().set_ignored_paths(
        paths=[MANIFEST_FILE, SIGNATURE_FILE], ignore_git_paths=True
    )
    signer = signing.Config().set_hashing_config(config)
    signer.use_elliptic_key_signer(private_key=place / "ours.key").sign(model, signature)
    trusted = read_trusted(str(place / "ours.pem"))
    assert len(verify_directory(model, trusted).files) == 3
    (model / "config.json").write_text("altered")
    with pytest.raises(SignatureError, match=r"config\.json was altered"):
        verify_directory(model, trusted)
