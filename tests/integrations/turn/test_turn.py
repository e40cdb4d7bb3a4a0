"""`examples/loop` run whole: a real server drifts, is noticed, learns again and goes live."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
# What the journal tells of the turn; looks between two stages are left out.
STEPS = [
    *("push", "alias", "retrain", "push", "rollout.start", "retrained"),
    *("rollout.advance", "rollout.advance", "rollout.promote", "alias", "rollout.done"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("turn")


@pytest.fixture(scope="module")
def printed(starter: Path, place: Path) -> str:
    """What the example says where English begins to ask for guarantees."""
    words = ["--data", EXAMPLES / "support" / "data", "--encoder", starter]
    words += ["--language", "en", "--new", "warranty"]
    words += ["--state", place / "house", "--json", place / "turn.json"]
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "loop" / "turn.py"), *map(str, words)],
        check=False,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def told(printed: str, place: Path) -> dict[str, Any]:
    """The numbers of the turn."""
    found: dict[str, Any] = json.loads((place / "turn.json").read_text(encoding="utf-8"))
    return found


def asked(place: Path, *words: str) -> Any:
    """What a verb says afterwards, as JSON."""
    house = place / "house"
    done = subprocess.run(
        [sys.executable, "-m", "xlmr", *words],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ
        | {"XLMR_REGISTRY": str(house / "registry"), "XLMR_FEEDBACK": str(house / "feedback.db")},
    )
    return json.loads(done.stdout)


def test_every_step_is_taken_in_its_order(printed: str) -> None:
    said = [line.split()[2] for line in printed.splitlines() if line.startswith("$ xlmr ")]
    verbs = [verb for verb, before in zip(said, ["", *said], strict=False) if verb != before]
    assert verbs == [
        *("train", "drift", "registry", "serve", "drift", "select"),
        *("feedback", "retrain", "registry"),
    ]
    assert "NOT SO" not in printed


def test_the_journal_tells_of_shadow_canary_and_live(printed: str, place: Path) -> None:
    entries = asked(place, "registry", "journal", "topics", "--json")
    assert [each["action"] for each in entries if each["action"] in STEPS] == STEPS


def test_only_what_drifted_is_accused(told: dict[str, Any]) -> None:
    assert {(alarm["kind"], alarm["language"]) for alarm in told["alarms"]} == {("within", "en")}


def test_no_request_is_lost(told: dict[str, Any]) -> None:
    # A lost one ends the example; here all are told by the version that answered.
    assert set(told["answered_by"]) == {"1", "2"}
    assert sum(told["answered_by"].values()) == told["requests"] >= 750


def test_accuracy_recovers_where_it_drifted(told: dict[str, Any]) -> None:
    first, second = told["accuracy"]["first"], told["accuracy"]["second"]
    assert first["drifted"] < first["as at release"] - 0.1
    assert told["regained"] >= told["lost"] / 2.0 > 0.0
    # What was known before is not unlearned.
    assert second["as at release"] >= first["as at release"] - 0.1


def test_an_incident_tells_where_the_shadow_answered_otherwise(printed: str, place: Path) -> None:
    began = datetime.fromtimestamp((place / "house").stat().st_ctime - 3600.0, UTC)
    found = asked(place, "incident", "topics", "--since", began.isoformat(), "--json", "-")
    assert found["shadow"]["languages"]["en"] > 0
    assert all(each["other"] != each["label"] for each in found["shadow"]["samples"])
