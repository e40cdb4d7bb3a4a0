"""What `docs/registry.md` tells a team to type works, in its order."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.registry.parts import gate_report, small_models

from xlmr.cli.main import cli
from xlmr.registry.roles import find_actor

REPOSITORY = Path(__file__).resolve().parent.parent
TEXT = (REPOSITORY / "docs" / "registry.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def commands() -> list[list[str]]:
    return [shlex.split(line) for block in blocks("bash") for line in block.splitlines()]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XLMR_CACHE_DIR", str(tmp_path / "cache"))
    first, second = small_models(tmp_path, 2)
    (tmp_path / "models").mkdir()
    first.rename(tmp_path / "models" / "router")
    second.rename(tmp_path / "models" / "better")
    return tmp_path


def write_report(command: list[str]) -> None:
    """What `xlmr gate` would write: its own tests run it on data, which takes minutes."""
    said = dict(itertools.pairwise(command))
    live = Path(said["--against"]) if "--against" in said else None
    report = gate_report(Path(command[2]), live=live)
    Path(said["--out"]).write_text(json.dumps(report))


def test_its_commands_work_in_order(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for command in commands():
        if command[0] == "export":
            name, _, value = command[1].partition("=")
            monkeypatch.setenv(name, value)
        elif command[1] == "gate":
            write_report(command)
        else:
            assert command[:2] == ["xlmr", "registry"]
            ran = CliRunner().invoke(cli, command[1:])
            assert ran.exit_code == 0, (command, ran.output, ran.exception)
            done.append(command[2])
    verbs = {"push", "list", "show", "alias", "pull", "rollback", "journal", "keygen", "verify"}
    assert set(done) == verbs | {"gc", "backup", "restore", "export", "import"}
    assert (work / "served" / "router" / "config.json").exists()


def test_its_roles_are_a_roles_file(tmp_path: Path) -> None:
    (roles,) = (block for block in blocks("toml") if "roles" in block)
    (tmp_path / "roles.toml").write_text(roles)
    pipeline = find_actor(str(tmp_path / "roles.toml"), name="pipeline", key="secret")
    assert pipeline.roles == {"read", "push"}
    ada = find_actor(str(tmp_path / "roles.toml"), user="ada")
    assert ada.roles == {"read", "promote"}


def test_every_file_it_names_exists() -> None:
    named = re.findall(r"`((?:docs|src)/[\w./-]+)`", TEXT)
    assert named
    assert not [name for name in named if not (REPOSITORY / name).exists()]
