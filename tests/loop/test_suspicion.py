from __future__ import annotations

import json
from typing import Any

import pytest
from tests.drift.test_report import report, spam_from

from xlmr.errors import DataError
from xlmr.loop.suspicion import Suspicion, read_suspicions


def drift_report(**more: Any) -> dict[str, Any]:
    """What `xlmr drift report --json` writes, as far as the loop reads it."""
    quiet = {"language": "en", "rows": 900, "drifted": False, "since": None}
    loud = {
        "language": "tr",
        "rows": 100,
        "drifted": True,
        "since": "2024-03-05T00:00:00+00:00",
        "accuracy": {"release": None, "estimated": None, "labelled": None, "lost": 12.5},
        "moved": [{"signal": "unknown"}, {"signal": "label"}, {"signal": "unknown"}],
        "typical": [
            {"signal": "label", "bin": "label spam", "was": 0.1, "now": 0.4},
            {"signal": "length", "bin": "8 to 16", "was": 0.1, "now": 0.2},
        ],
    }
    clusters = [
        {"was": 0.1, "now": 0.4, "typical": ["p1", "p2"]},
        {"was": 0.4, "now": 0.1, "typical": ["p9"]},
    ]
    closer = {"languages": {"tr": {"p_value": 0.01, "clusters": clusters}}, "why_not": None}
    return {"format": 1, "model": "router", "languages": [quiet, loud], "closer": closer} | more


def test_it_says_where_since_when_and_what() -> None:
    assert read_suspicions(drift_report(), model="router", origin="drift.json") == (
        Suspicion(
            language="tr",
            since=1_709_596_800.0,
            signals=("unknown", "label"),
            labels=frozenset({"spam"}),
            examples=frozenset({"p1", "p2"}),
            lost=12.5,
        ),
    )
    assert len(read_suspicions(drift_report(closer=None), model="router", origin="")) == 1
    assert read_suspicions(drift_report(languages=[]), model="router", origin="") == ()


@pytest.mark.parametrize(
    "said", [[], {}, {"model": "router"}, drift_report(languages=[{"drifted": 1}])]
)
def test_what_is_no_report_is_refused(said: Any) -> None:
    with pytest.raises(DataError, match=r"drift\.json: no drift report"):
        read_suspicions(said, model="router", origin="drift.json")


def test_a_report_of_another_format_is_refused() -> None:
    with pytest.raises(DataError, match="format 2, expected 1"):
        read_suspicions(drift_report(format=2), model="router", origin="drift.json")


def test_a_report_on_another_model_is_refused() -> None:
    with pytest.raises(DataError, match="a report on spam, not on router"):
        read_suspicions(drift_report(model="spam"), model="router", origin="drift.json")


def test_a_real_report_is_read() -> None:
    made = report(spam_from(48, 72))
    (found,) = read_suspicions(json.loads(json.dumps(made.to_json())), model="router", origin="")
    since = made.languages[0].since
    assert since is not None
    assert found.language == "de"
    assert found.since == since * 3600.0
    assert (found.signals, found.labels) == (("label",), frozenset({"spam"}))
    quiet = report(spam_from(1 << 30, 72))
    assert read_suspicions(quiet.to_json(), model="router", origin="") == ()
