"""What a version is: its digest follows its files and nothing else, and it cannot be forged."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from tests.tiny import tiny_model

from xlmr.errors import DigestMismatchError, ModelNotFoundError, RegistryError
from xlmr.model.bundle import open_bundle
from xlmr.registry.digest import FileEntry, tree_digest
from xlmr.registry.manifest import Manifest, check_files, make_manifest

A = FileEntry("a.json", 2, "a" * 64)
B = FileEntry("b/c.json", 3, "b" * 64)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    tiny_model(place, "classify")
    return place / "classify"


def test_a_digest_follows_paths_sizes_and_contents() -> None:
    same = tree_digest([A, B])
    assert tree_digest([B, A]) == same
    others = [
        [A],
        [A, FileEntry("b/d.json", 3, "b" * 64)],
        [A, FileEntry("b/c.json", 4, "b" * 64)],
        [A, FileEntry("b/c.json", 3, "c" * 64)],
    ]
    assert same not in {tree_digest(other) for other in others}


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a\\b", "C:/x", "a\nb", "a/"]
)
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(RegistryError, match="relative path"):
        tree_digest([FileEntry(path, 1, "a" * 64)])


def test_a_tree_names_each_file_once_and_each_with_a_digest() -> None:
    with pytest.raises(RegistryError, match="twice"):
        tree_digest([A, FileEntry("a.json", 9, "b" * 64)])
    with pytest.raises(RegistryError, match="no SHA-256"):
        tree_digest([FileEntry("a", 1, "XYZ")])


def test_a_manifest_tells_what_a_model_is(model: Path) -> None:
    manifest = make_manifest(model)
    bundle = open_bundle(model)
    assert manifest.answers == bundle.digest
    assert manifest.tokenizer == bundle.tokenizer.fingerprint
    assert manifest.tasks == tuple(sorted(bundle.tasks))
    on_disk = {p.relative_to(model).as_posix() for p in model.rglob("*") if p.is_file()}
    assert {entry.path for entry in manifest.files} == on_disk
    assert manifest.size_bytes == sum((model / path).stat().st_size for path in on_disk)
    assert Manifest.from_bytes(manifest.to_bytes(), origin="here") == manifest


def test_what_is_made_on_the_way_is_no_part_of_it(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    before = make_manifest(copy).digest
    (copy / "xlmr-native-int8.weights").write_bytes(b"prepared")
    (copy / "model.sig").write_text("{}")
    (copy / "xlmr-manifest.json").write_text("{}")
    (copy / ".cache").mkdir()
    (copy / ".cache" / "x").write_text("x")
    os.utime(copy / "config.json", (1, 1))
    assert make_manifest(copy).digest == before == make_manifest(model).digest
    (copy / "notes.txt").write_text("x")
    assert make_manifest(copy).digest != before


def test_licence_and_lineage_are_kept(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    (copy / "README.md").write_text("---\nlanguage: en\nlicense: cc-by-4.0\n---\nlicense: other\n")
    lineage = {"data": [{"sha256": "1" * 64}], "code": "abc"}
    (copy / "xlmr.json").write_text(json.dumps({"format": 1, "lineage": lineage}))
    manifest = make_manifest(copy)
    assert manifest.license == "cc-by-4.0"
    assert manifest.lineage == lineage


def test_every_file_that_is_not_as_promised_is_named(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    manifest = make_manifest(copy)
    check_files(manifest, copy)
    config = copy / "config.json"
    stamp = config.stat()
    config.write_text(config.read_text().replace('"gelu"', '"relu"'))
    os.utime(config, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer | {"version": "2"}))
    (copy / "model.safetensors").unlink()
    (copy / "more.bin").write_bytes(b"x")
    with pytest.raises(DigestMismatchError) as caught:
        check_files(manifest, copy)
    for said in (
        "config.json was altered",
        "tokenizer.json is another tokenizer",
        "model.safetensors is missing",
        "more.bin was added",
    ):
        assert said in caught.value.message


def test_an_edited_manifest_is_refused(model: Path) -> None:
    manifest = make_manifest(model)
    edited = manifest.to_bytes().replace(manifest.files[0].sha256.encode(), b"0" * 64)
    with pytest.raises(RegistryError, match="altered"):
        Manifest.from_bytes(edited, origin="here")
    for data in (b"", b"[]", b"{}", b"\xff\xfe", manifest.to_bytes()[:-20]):
        with pytest.raises(RegistryError, match="here: no manifest"):
            Manifest.from_bytes(data, origin="here")
    newer = manifest.to_bytes().replace(b'"format": 1', b'"format": 2')
    with pytest.raises(RegistryError, match="upgrade"):
        Manifest.from_bytes(newer, origin="here")


def test_what_is_no_plain_file_is_refused(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    (copy / "linked").symlink_to(tmp_path)
    with pytest.raises(RegistryError, match="link to a directory"):
        make_manifest(copy)
    (copy / "linked").unlink()
    (copy / "gone").symlink_to(tmp_path / "nothing")
    with pytest.raises(RegistryError, match="leads nowhere"):
        make_manifest(copy)
    with pytest.raises(ModelNotFoundError):
        make_manifest(tmp_path / "nothing")
