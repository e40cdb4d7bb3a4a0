"""Copies of versions: whole or not there, pulled once however many ask, and left when unused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.tiny import tiny_model

from xlmr.errors import RegistryUnavailableError
from xlmr.model.importing.staging import build_directory
from xlmr.serving.follow.copies import KEEP_S, Copies

DIGEST, OTHER = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("copies"), "embed", positions=34)


class Pulls:
    """Pulls a model as the registry does, and counts how often."""

    def __init__(self, model: Path, *, seconds: float = 0.0) -> None:
        self.times = 0
        self._model, self._seconds = model, seconds

    def __call__(self, out: Path) -> None:
        def write(staged: Path) -> None:
            shutil.copytree(self._model, staged, dirs_exist_ok=True)
            time.sleep(self._seconds)

        self.times += 1
        build_directory(out, write, force=True)


def test_it_is_pulled_once_and_again_when_in_doubt(tmp_path, model):
    copies, pull = Copies(tmp_path / "copies"), Pulls(model)
    copies.bring(DIGEST, pull)
    copies.bring(DIGEST, pull)
    assert pull.times == 1
    (copies.path(DIGEST) / "config.json").write_text("{}")
    copies.doubt(DIGEST)
    copies.bring(DIGEST, pull)
    copies.bring(DIGEST, pull)
    assert pull.times == 2
    assert (copies.path(DIGEST) / "config.json").read_bytes() == (
        model / "config.json"
    ).read_bytes()


def test_a_copy_that_lost_its_essentials_is_replaced(tmp_path, model):
    copies, pull = Copies(tmp_path / "copies"), Pulls(model)
    copies.bring(DIGEST, pull)
    (copies.path(DIGEST) / "tokenizer.json").unlink()
    copies.doubt(DIGEST)
    copies.bring(DIGEST, pull)
    assert (copies.path(DIGEST) / "tokenizer.json").is_file()


def test_what_cannot_be_pulled_leaves_what_was_there(tmp_path, model):
    copies = Copies(tmp_path / "copies")
    copies.bring(DIGEST, Pulls(model))
    copies.doubt(DIGEST)

    def away(out: Path) -> None:
        raise RegistryUnavailableError("away")

    for digest in (DIGEST, OTHER):
        with pytest.raises(RegistryUnavailableError):
            copies.bring(digest, away)
    assert (copies.path(DIGEST) / "config.json").is_file()
    assert not copies.path(OTHER).exists()


def test_two_servers_pull_it_once(tmp_path, model):
    pull = Pulls(model, seconds=0.2)
    servers = [Copies(tmp_path / "copies") for _ in range(2)]
    threads = [threading.Thread(target=one.bring, args=(DIGEST, pull)) for one in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pull.times == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from xlmr.model.importing.staging import build_directory
from xlmr.serving.follow.copies import Copies
def write(staged):
    (staged / "config.json").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
Copies(Path(sys.argv[1])).bring("a" * 64, lambda out: build_directory(out, write, force=True))
"""


def test_a_server_killed_while_it_pulls_leaves_nothing_in_the_way(tmp_path, model):
    root = tmp_path / "copies"
    done = subprocess.run([sys.executable, "-c", KILLED, str(root)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in root.iterdir() if path.suffix == ".partial"]
    copies, pull = Copies(root), Pulls(model)
    assert not copies.path(DIGEST).exists()
    copies.bring(DIGEST, pull)
    assert sorted(path.name for path in root.iterdir()) == [f".{DIGEST}.lock", DIGEST]


def test_what_nobody_names_leaves_after_a_while(tmp_path, model):
    copies, pull = Copies(tmp_path / "copies"), Pulls(model)
    for digest in (DIGEST, OTHER):
        copies.bring(digest, pull)
    (tmp_path / "copies" / "note.txt").write_text("not ours")
    copies.sweep({DIGEST})
    assert copies.path(OTHER).is_dir()
    long_ago = time.time() - KEEP_S - 60
    for path in (tmp_path / "copies").iterdir():
        os.utime(path, (long_ago, long_ago))
    copies.sweep({DIGEST})
    left = {path.name for path in (tmp_path / "copies").iterdir()}
    assert left == {DIGEST, "note.txt", f".{DIGEST}.lock"}


def test_a_directory_that_cannot_be_written_is_named(tmp_path, model):
    (tmp_path / "copies").write_text("a file")
    with pytest.raises(RegistryUnavailableError, match="copies"):
        Copies(tmp_path / "copies").bring(DIGEST, Pulls(model))
