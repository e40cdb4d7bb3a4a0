"""A model directory appears whole or not at all, and never over something else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from xlmr.errors import ModelError
from xlmr.training.checkpoint import (
    TOKENIZER_FILES,
    check_target,
    lineage,
    link_files,
    write_json,
    write_model,
)

MODEL = ("config.json", "tokenizer.json", "model.safetensors")


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    directory = tmp_path / "encoder"
    (directory / "1_Pooling").mkdir(parents=True)
    (directory / "onnx").mkdir()
    others = ("xlmr.json", "xlmr_head.safetensors", "pytorch_model.bin", "onnx/model.onnx")
    others += ("xlmr-manifest.json", "model.sig")
    for name in (*MODEL, "LICENSE", "1_Pooling/config.json", *others):
        (directory / name).write_text(name)
    return directory


def names(directory: Path) -> set[str]:
    return {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}


def fill(fresh: Path) -> None:
    for name in MODEL:
        (fresh / name).write_text("new")


def test_the_encoder_is_linked_without_heads_and_other_formats(
    encoder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    link_files(encoder, target)
    assert names(target) == {*MODEL, "LICENSE", "1_Pooling/config.json"}
    assert (target / "model.safetensors").samefile(encoder / "model.safetensors")


def test_named_files_are_all_that_is_taken(encoder: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    link_files(encoder, target, names=TOKENIZER_FILES)
    assert names(target) == {"tokenizer.json", "LICENSE"}


def test_where_links_cannot_be_files_are_copied(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr("os.link", refuse)
    target = tmp_path / "target"
    target.mkdir()
    link_files(encoder, target)
    assert (target / "model.safetensors").read_text() == "model.safetensors"
    assert not (target / "model.safetensors").samefile(encoder / "model.safetensors")


def test_a_symbolic_link_to_the_weights_becomes_the_file_itself(tmp_path: Path) -> None:
    # A hub's cache holds links to blobs; a hard link to a link would break with the cache.
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (tmp_path / "blob").write_text("weights")
    (source / "model.safetensors").symlink_to(tmp_path / "blob")
    link_files(source, target)
    assert not (target / "model.safetensors").is_symlink()
    assert (target / "model.safetensors").read_text() == "weights"


def test_a_model_is_replaced_only_by_force(encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    write_model(out, fill, encoder=encoder, force=False)
    (out / "mark").write_text("old")
    with pytest.raises(ModelError, match="exists"):
        write_model(out, fill, encoder=encoder, force=False)
    assert (out / "mark").exists()
    write_model(out, fill, encoder=encoder, force=True)
    assert names(out) == set(MODEL)


def test_what_is_no_model_is_never_replaced(encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter.txt").write_text("years of work")
    with pytest.raises(ModelError, match="something else"):
        write_model(out, fill, encoder=encoder, force=True)
    assert names(out) == {"chapter.txt"}


def test_the_encoder_is_never_replaced(encoder: Path) -> None:
    for out in (encoder, encoder / ".." / "encoder", encoder.parent):
        with pytest.raises(ModelError, match="the encoder lies there"):
            check_target(out, encoder=encoder, force=True)


def test_a_failure_leaves_nothing_behind(encoder: Path, tmp_path: Path) -> None:
    def fail(fresh: Path) -> None:
        fill(fresh)
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        write_model(tmp_path / "out", fail, encoder=encoder, force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_a_lineage_has_no_clock_and_no_place(encoder: Path, tmp_path: Path) -> None:
    def origin() -> dict[str, object]:
        return lineage(
            method="head",
            seed=1,
            encoder=encoder,
            encoder_digest="abc",
            data=[],
            options={"seed": 1},
            packages=("numpy", "no-such-package"),
        )

    write_json(tmp_path / "a.json", origin())
    write_json(tmp_path / "b.json", origin())
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert str(tmp_path) not in (tmp_path / "a.json").read_text()
    assert re.fullmatch("[0-9a-f]{64}", str(origin()["code"]))
    versions = origin()["versions"]
    assert isinstance(versions, dict)
    assert versions["no-such-package"] == "unknown"
    assert {"xlmr", "python", "numpy"} < set(versions)
