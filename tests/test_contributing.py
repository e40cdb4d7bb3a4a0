"""What a contributor is told to run is all there is to run, and CI runs it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SUITES = sorted(
    path.parent.name for path in REPOSITORY.glob("tests/integrations/*/requirements.txt")
)


def test_every_suite_of_integrations_is_named() -> None:
    assert len(SUITES) > 5
    told = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    [line] = [line for line in told.splitlines() if line.startswith("make test-integrations")]
    assert set(SUITES) <= set(re.findall(r"\w+", line))
    page = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert set(SUITES) <= set(re.findall(r"`(\w+)`", page))


def test_ci_runs_the_tests_and_then_every_suite() -> None:
    lines = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    made = [line for line in lines if line.startswith("make ")]
    assert made == ["make test", "make --keep-going test-integrations"]
    assert "set -euo pipefail" in lines
