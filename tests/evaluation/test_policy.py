"""A policy's file says what it means, or is refused by the name of what is wrong."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from xlmr.errors import SettingsError
from xlmr.evaluation import policy as module
from xlmr.evaluation.gate import Policy
from xlmr.evaluation.policy import make_policy


def test_nothing_said_is_the_default() -> None:
    assert make_policy({}) == Policy()


def test_the_example_of_the_docstring_holds() -> None:
    lines = (module.__doc__ or "").splitlines()
    example = "\n".join(line[4:] for line in lines if line.startswith("    "))
    assert make_policy(tomllib.loads(example)) == Policy(
        languages=("de", "sw"), least_rows=100, p95_ms=20.0, waived=frozenset({"latency"})
    )


def test_the_command_line_wins_and_adds() -> None:
    made = make_policy({"waive": ["int8"], "latency": {"p95_ms": 5}}, waived=["golden"], p95_ms=9.0)
    assert made.p95_ms == 9.0
    assert made.waived == {"int8", "golden"}


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"waive": ["luck"]}, "luck"),
        ({"macro": {"margn": 0.1}}, "margn"),
        ({"makro": {}}, "makro"),
        ({"macro": {"margin": 3}}, "macro.margin"),
        ({"latency": {"p95_ms": 0}}, "latency.p95_ms"),
        ({"language": {"least_rows": 0}}, "language.least_rows"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], place: str) -> None:
    with pytest.raises(SettingsError, match=place):
        make_policy(values, origin="release.toml")
