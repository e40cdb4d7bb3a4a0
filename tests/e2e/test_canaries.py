"""A faulty version goes back and a good one goes live: real commands, a real server, real load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.tiny import tokenizer_json

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_one_rollout_goes_back_and_one_goes_live(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    json_file, page = tmp_path / "found.json", tmp_path / "page.md"
    done = subprocess.run(
        [
            *(sys.executable, BENCHMARKS / "canaries.py", tmp_path, "--quick"),
            *("--json", json_file, "--page", page),
        ],
        env=os.environ | {"XLMR_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(json_file.read_text())["rollouts"]
    assert found["lost"] == 0
    nan, good = found["rollouts"]
    assert (nan["candidate"], nan["ended"], nan["tests"]) == ("nan", "back", ["non_finite"])
    # The candidate failed, and the live version answered in its place.
    assert nan["rescued"] >= 1
    assert (good["candidate"], good["ended"], good["stage"]) == ("good", "live", "50 %")
    assert good["copies"] >= 150
    assert good["by_candidate"] >= 50
    assert all(one["sentence"] in page.read_text() for one in (nan, good))
