"""What is missing is named with the command that installs it, whatever is imported first."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
sys.modules[{package!r}] = None
from xlmr.cli.main import main
sys.argv = ["xlmr", "registry", "list", "--registry", sys.argv[1]]
main()
"""


@pytest.mark.parametrize("package", ["sqlalchemy", "fsspec"])
def test_a_missing_package_is_named(package: str, tmp_path: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(package=package), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        f"xlmr: {package} is not installed",
        "  hint: pip install 'xlmr[registry]'",
    ]
