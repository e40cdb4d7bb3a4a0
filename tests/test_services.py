"""`make services` installs what is missing and nothing else, and says plainly what it cannot do."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SERVICES = ("redis-server", "postgres", "prometheus-alertmanager")
TOOLS = ("ls", "mktemp", "tail", "rm", "chmod")


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the script where there are only some programs; `apt-get` notes what it is asked."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in TOOLS:
        (programs / tool).symlink_to(shutil.which(tool) or pytest.skip(f"no {tool}"))

    def write(name: str, script: str) -> None:
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)

    def run(
        *there: str, user: int = 0, apt: str | None = "exit 0"
    ) -> subprocess.CompletedProcess[str]:
        for name in there:
            write(name, "exit 0")
        write("id", f"echo {user}")
        if apt is not None:
            write("apt-get", f'echo "$@" >>{tmp_path}/asked; {apt}')
        return subprocess.run(
            [shutil.which("bash") or "bash", REPOSITORY / "tests" / "services.sh"],
            env={"PATH": str(programs)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def asked(tmp_path: Path) -> str:
    return (tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else ""


def test_where_all_is_there_nothing_happens(machine, tmp_path):
    done = machine(*SERVICES, "prometheus")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not asked(tmp_path)


def test_who_may_not_install_is_told_what_to_type(machine, tmp_path):
    done = machine(*SERVICES, user=1000)
    assert done.returncode == 0
    assert "sudo apt-get install --no-install-recommends prometheus\n" in done.stderr
    assert not asked(tmp_path)


def test_where_there_is_no_apt_it_says_so(machine):
    done = machine(*SERVICES, apt=None)
    assert done.returncode == 0
    assert "prometheus" in done.stderr
    assert "skipped" in done.stderr


# Without it the script writes a file that only root may write.
needs_policy = pytest.mark.skipif(
    not Path("/usr/sbin/policy-rc.d").exists() and os.geteuid() != 0, reason="needs root"
)


@needs_policy
def test_only_what_is_missing_is_installed(machine, tmp_path):
    before = Path("/usr/sbin/policy-rc.d").exists()
    done = machine(*SERVICES)
    assert done.returncode == 0, done.stderr
    assert asked(tmp_path).splitlines() == [
        "update",
        "install --no-install-recommends prometheus --yes",
    ]
    assert Path("/usr/sbin/policy-rc.d").exists() == before


@needs_policy
def test_where_installing_fails_the_tests_go_on(machine):
    done = machine(*SERVICES, apt="echo no network >&2; exit 100")
    assert done.returncode == 0
    assert "no network" in done.stderr
    assert "skipped" in done.stderr
