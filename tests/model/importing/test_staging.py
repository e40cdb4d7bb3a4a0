from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from xlmr.errors import ModelError
from xlmr.model.importing.staging import build_directory, is_model

FILES = ("config.json", "tokenizer.json", "model.safetensors")


def writer(content: str):
    def write(directory: Path) -> None:
        for name in FILES:
            (directory / name).write_text(content)

    return write


def contents(directory: Path) -> set[str]:
    return {(directory / name).read_text() for name in FILES}


def test_appears_whole(tmp_path):
    out = tmp_path / "new" / "model"
    build_directory(out, writer("a"), force=False)
    assert is_model(out)
    assert [path.name for path in out.parent.iterdir()] == ["model"]
    umask = os.umask(0)
    os.umask(umask)
    assert out.stat().st_mode & 0o777 == 0o777 & ~umask


def test_nothing_appears_where_writing_fails(tmp_path):
    def fail(directory: Path) -> None:
        writer("a")(directory)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ModelError, match="no space left") as refused:
        build_directory(tmp_path / "model", fail, force=False)
    assert "free some space" in refused.value.hint
    assert not list(tmp_path.iterdir())


def test_a_failed_replacement_leaves_the_old_one(tmp_path):
    build_directory(tmp_path / "model", writer("old"), force=False)

    def fail(directory: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_directory(tmp_path / "model", fail, force=True)
    assert contents(tmp_path / "model") == {"old"}
    assert len(list(tmp_path.iterdir())) == 1


def test_an_empty_directory_is_used(tmp_path):
    (tmp_path / "model").mkdir()
    build_directory(tmp_path / "model", writer("a"), force=False)
    assert contents(tmp_path / "model") == {"a"}


@pytest.mark.parametrize("force", [False, True])
def test_files_and_links_are_refused(tmp_path, force):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(ModelError, match="not a directory"):
            build_directory(tmp_path / name, writer("a"), force=force)


def test_a_file_above_the_target_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelError):
        build_directory(tmp_path / "file" / "model", writer("a"), force=False)


@pytest.mark.parametrize("force", [False, True])
def test_two_at_once_do_not_mix(tmp_path, force):
    out = tmp_path / "model"
    writers = 8
    together = threading.Barrier(writers)
    faults: list[Exception] = []

    def build(content: str) -> None:
        def write(directory: Path) -> None:
            writer(content)(directory)
            together.wait(timeout=30)

        try:
            build_directory(out, write, force=force)
        except ModelError as fault:
            faults.append(fault)

    threads = [threading.Thread(target=build, args=(str(i),)) for i in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert len(contents(out)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
