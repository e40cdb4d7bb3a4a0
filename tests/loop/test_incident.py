from __future__ import annotations

import json
import random
import shlex
from dataclasses import replace
from typing import Any

import pytest

from xlmr.cli.incident_page import render
from xlmr.loop.incident import (
    Alert,
    Gathered,
    Language,
    Move,
    Read,
    Sample,
    incident_json,
    suggest,
)

UP = Move(at=900.0, action="alias", version=4, previous=3, actor="ada", reason="")
PAGE = Alert(
    source="prometheus", name="XlmrErrors", since=1000.0, until=1500.0, labels={"model": "router"}
)


def sample(n: int, language: str, confidence: float, **more: Any) -> Sample:
    values = {"id": f"{language}{n}", "at": float(n), "version": "4", "label": "refund"}
    return Sample(**values | {"language": language, "confidence": confidence} | more)


def gathered(*, turkish: float, seed: int = 1, rows: int = 300) -> Gathered:
    """English stays as it was; Turkish answers become so much less sure, and more often wrong."""
    chance, found = random.Random(seed), Gathered(most=5)
    for n in range(rows):
        for language, less in (("en", 0.0), ("tr", turkish)):
            said = "refund" if chance.random() < 0.9 else "other"
            before = sample(n, language, chance.uniform(0.7, 1.0), version="3", said=said)
            found.see(before, "before")
            said = "refund" if chance.random() < 0.9 - less else "other"
            label = "refund" if chance.random() > less else "other"
            confidence = chance.uniform(0.7, 1.0) - less
            found.see(sample(n, language, confidence, said=said, label=label), "now")
    return found


def test_what_got_worse_is_named_and_nothing_else() -> None:
    turkish, english = gathered(turkish=0.3).languages()
    assert (turkish.language, turkish.worse) == ("tr", ["confidence", "right"])
    assert (english.language, english.worse) == ("en", [])
    assert turkish.moved > 0.2 > english.moved
    assert next(iter(turkish.labels)) in ("other", "refund")
    assert (turkish.right.rows_before, turkish.right.rows) == (300, 300)


def test_chance_is_not_taken_for_harm() -> None:
    for seed in range(20):
        assert not any(e.worse for e in gathered(turkish=0.0, seed=seed, rows=120).languages())
    # Few rows prove nothing, however bad they look.
    assert not any(e.worse for e in gathered(turkish=0.3, rows=40).languages())


def test_withheld_answers_are_seen() -> None:
    found = Gathered()
    for n in range(200):
        found.see(sample(n, "de", 0.9), "before")
        found.see(sample(n, "de", 0.9, abstained=n % 5 == 0), "now")
    (german,) = found.languages()
    assert german.worse == ["abstained"]
    assert (german.abstained.before, german.abstained.now) == (0.0, 0.2)


def test_answers_worth_reading() -> None:
    found = gathered(turkish=0.3)
    assert len(found.doubtful) == len(found.disagreeing) == 5
    confidences = [s.confidence or 0.0 for s in found.doubtful]
    assert confidences == sorted(confidences)
    assert confidences[0] < 0.45
    assert all(s.said != s.label for s in found.disagreeing)
    assert found.versions == {"before": {"3": 600}, "now": {"4": 600}}
    found.see(Sample(id="x", at=0.0, version="4", language="fi", label=""), "now")
    assert found.languages()[-1].confidence.now is None


def told(languages: list[Language] | None = None, **more: Any) -> tuple[str, str]:
    values: dict[str, Any] = {
        "since": 1000.0,
        "live": 4,
        "rolling": "",
        "moves": [UP],
        "languages": gathered(turkish=0.3).languages() if languages is None else languages,
        "alerts": [],
    }
    found = suggest("router", **values | more)
    return found.command, " ".join(found.why)


def test_a_version_that_did_harm_goes_back() -> None:
    command, why = told()
    assert shlex.split(command) == [
        *("xlmr", "registry", "rollback", "router", "--to", "3"),
        *("--reason", "incident: tr: confidence, right worse"),
    ]
    assert "version 4 went live shortly before the trouble began" in why
    assert "after the trouble began" in told(moves=[replace(UP, at=1100.0)])[1]


def test_a_rollout_under_way_is_ended() -> None:
    assert shlex.split(told(rolling="5")[0])[:4] == ["xlmr", "rollout", "abort", "router"]


def test_an_alert_that_names_the_model_is_harm_and_others_are_not() -> None:
    assert "alert XlmrErrors" in told([], alerts=[PAGE])[0]
    others = [replace(PAGE, labels={}), replace(PAGE, source="drift", labels={"language": "tr"})]
    command, why = told([], alerts=others)
    assert (command, why) == ("", "no figure of the model got worse: no reason to go back")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"moves": []}, "nothing went live"),
        ({"moves": [replace(UP, previous=0)]}, "nothing went live"),
        ({"live": 3}, "version 4 was taken back already: version 3 is live now"),
        ({"live": 0}, "no version is live now"),
    ],
)
def test_where_going_back_would_not_help(more: dict[str, Any], said: str) -> None:
    command, why = told(**more)
    assert command == ""
    assert said in why
    assert "tr: confidence, right worse" in why


def test_the_report_is_plain_values_and_a_page() -> None:
    found = gathered(turkish=0.3)
    found.see(sample(999, "tr", 0.01, text="<script>alert(1)</script>"), "now")
    found.see(sample(998, "tr", 0.8, shadow="5", other="delivery"), "before")
    found.see(sample(998, "tr", 0.8, shadow="5", other="delivery"), "now")
    suggestion = suggest(
        "router",
        since=1000.0,
        live=4,
        rolling="",
        moves=[UP],
        languages=found.languages(),
        alerts=[PAGE],
    )
    report = incident_json(
        found,
        suggestion,
        moves=[UP],
        alerts=[PAGE],
        unknown=["drift alarms: away"],
        reads=[Read("tr", compared=77, disagreed=7)],
        model="router",
        since="a",
        until="b",
    )
    assert json.loads(json.dumps(report)) is not None
    assert [e["language"] for e in report["languages"]] == ["tr", "en"]
    assert report["shadow"]["languages"] == {"tr": 1}
    assert [each["id"] for each in report["shadow"]["samples"]] == ["tr998"]
    page = render(report)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    told = ("xlmr registry rollback router", "XlmrErrors", "drift alarms: away", "3 → 4")
    for words in (*told, "<td>77</td>", "<td>delivery</td>"):
        assert words in page
