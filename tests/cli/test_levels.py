from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from xlmr.cli.main import cli
from xlmr.errors import SettingsError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "levels.md"


def run(*words):
    return CliRunner().invoke(cli, ["levels", *map(str, words)])


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "levels.toml").write_text(run("init").output)
    return tmp_path


def test_what_the_page_says_to_type_writes_everything(work, monkeypatch):
    # The tools have their own tests, and take seconds.
    monkeypatch.setenv("PATH", str(work))
    (commands,) = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for line in commands.splitlines():
        program, group, verb, *words = line.split()
        assert (program, group) == ("xlmr", "levels")
        if verb == "init":
            assert words == [">", "levels.toml"]
            continue
        done = run(verb, *words)
        assert done.exit_code == 0, done.output
        if verb != "check":
            assert all((work / path).exists() for path in done.output.splitlines())
    names = {str(p.relative_to(work / "monitoring")) for p in work.rglob("*.[yj]*")}
    assert names == {
        "rules.yaml",
        "rules.test.yaml",
        "alertmanager.yaml",
        "dashboards/executive.json",
        "dashboards/on-call.json",
        "dashboards/debug.json",
    }


def test_check_finds_what_is_old(work, monkeypatch):
    monkeypatch.setenv("PATH", str(work))
    assert run("check", "levels.toml").exit_code == 0
    run("alertmanager", "levels.toml")
    done = run("check", "levels.toml")
    assert done.exit_code == 0
    assert "monitoring/alertmanager.yaml: says what levels.toml says" in done.output
    assert "not checked, amtool is not installed" in done.output
    assert "monitoring/rules.yaml: not written yet" in done.output
    text = (work / "levels.toml").read_text()
    changed = text.replace("127.0.0.1:9095/page", "127.0.0.1:9095/night")
    assert changed != text
    (work / "levels.toml").write_text(changed)
    done = run("check", "levels.toml")
    assert done.exit_code == 1
    assert "alertmanager.yaml: is not what levels.toml says" in done.output


def test_check_asks_the_tools(work, monkeypatch):
    programs = work / "bin"
    programs.mkdir()
    for name, code in (("promtool", 0), ("amtool", 1)):
        (programs / name).write_text(f"#!/bin/sh\necho {name} looked; exit {code}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/bin:/usr/bin")
    run("rules", "levels.toml")
    done = run("check", "levels.toml")
    assert done.exit_code == 0, done.output
    assert "monitoring/rules.test.yaml: promtool test rules passes" in done.output
    run("alertmanager", "levels.toml")
    done = run("check", "levels.toml")
    assert done.exit_code == 1
    assert "amtool check-config fails\namtool looked" in done.output


def test_what_cannot_be_written_leaves_what_was(work, monkeypatch):
    run("rules", "levels.toml")
    before = (work / "monitoring" / "rules.yaml").read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    done = run("rules", "levels.toml")
    assert isinstance(done.exception, SettingsError)
    assert "No space left on device" in str(done.exception)
    assert (work / "monitoring" / "rules.yaml").read_text() == before
    assert not list(work.rglob(".rules*"))


@pytest.mark.parametrize("content", [None, b"\xff", b"job = 1"])
def test_a_file_that_cannot_be_read_is_named(work, content):
    if content is not None:
        (work / "other.toml").write_bytes(content)
    done = run("rules", "other.toml")
    assert isinstance(done.exception, SettingsError)
    assert "other.toml" in str(done.exception)
    assert not (work / "monitoring").exists()
