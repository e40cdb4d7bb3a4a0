"""The gate, check by check; and never does a better model fare worse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.errors import DataError
from xlmr.evaluation.compare import Comparison, Difference
from xlmr.evaluation.gate import CHECKS, Evidence, Policy, Refusal, Release, decide

POLICY = Policy(p95_ms=20.0)
NAN = float("nan")


def difference(gain: float, low: float | None = None, n: int = 500) -> Difference:
    low = gain - 0.005 if low is None else low
    return Difference(n=n, old=0.8, new=0.8 + gain, difference=gain, low=low, high=gain + 0.005)


def comparison(gains: Mapping[str, float], low: float = 0.0, n: int = 500) -> Comparison:
    languages = {language: difference(gain, n=n) for language, gain in gains.items()}
    macro = difference(sum(gains.values()) / max(len(gains), 1), low)
    return Comparison("accuracy", languages, macro, seed=0)


GOOD = Evidence(
    comparison=comparison({"de": 0.01, "sw": -0.02}),
    ece={"de": 0.02, "sw": 0.07},
    int8_loss={"de": 0.001, "sw": -0.002},
    p95_ms=15.0,
    golden_unchanged=True,
)


def test_a_good_model_is_released() -> None:
    assert decide(GOOD, POLICY) == Release(passed=CHECKS, waived=())


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        # exactly at the limit: the macro bound must be above, everything else may touch it
        ({"comparison": comparison({"de": 0.0, "sw": 0.0}, low=-0.01)}, [("macro", None)]),
        ({"comparison": comparison({"de": 0.0, "sw": 0.0}, low=-0.0099)}, []),
        ({"comparison": comparison({"de": 0.80 - 0.83, "sw": 0.0})}, []),
        ({"comparison": comparison({"de": -0.031, "sw": 0.0})}, [("language", "de")]),
        (
            {"comparison": comparison({"de": -0.031, "sw": -0.2}, low=-0.1)},
            [("macro", None), ("language", "de"), ("language", "sw")],
        ),
        ({"ece": {"de": 0.05, "sw": 0.05}}, []),
        ({"ece": {"de": 0.02, "sw": 0.09}}, [("calibration", None)]),
        ({"int8_loss": {"de": 0.83 - 0.825, "sw": 0.0}}, []),
        ({"int8_loss": {"de": 0.006, "sw": 0.0}}, [("int8", "de")]),
        ({"p95_ms": 20.0}, []),
        ({"p95_ms": 20.1}, [("latency", None)]),
        ({"golden_unchanged": False}, [("golden", None)]),
    ],
)
def test_each_check_at_its_limit(change: dict[str, Any], failed: list[tuple[str, Any]]) -> None:
    found = decide(replace(GOOD, **change), POLICY)
    reasons = found.reasons if isinstance(found, Refusal) else ()
    assert [(reason.check, reason.language) for reason in reasons] == failed
    assert all(reason.message for reason in reasons)


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"comparison": None}, [("macro", None), ("language", "de"), ("language", "sw")]),
        ({"comparison": comparison({"de": 0.0})}, [("language", "sw")]),
        ({"comparison": comparison({"de": NAN, "sw": 0.0})}, [("language", "de")]),
        ({"comparison": comparison({"de": 0.0, "sw": 0.0}, low=NAN)}, [("macro", None)]),
        ({"ece": {}}, [("calibration", "de"), ("calibration", "sw")]),
        ({"ece": {"de": 0.0}}, [("calibration", "sw")]),
        ({"ece": {"de": 0.0, "sw": NAN}}, [("calibration", "sw")]),
        ({"ece": {"de": -0.1, "sw": 0.0}}, [("calibration", "de")]),
        ({"int8_loss": {}}, [("int8", "de"), ("int8", "sw")]),
        ({"int8_loss": {"de": 0.0, "sw": NAN}}, [("int8", "sw")]),
        ({"p95_ms": None}, [("latency", None)]),
        ({"p95_ms": NAN}, [("latency", None)]),
        ({"p95_ms": 0.0}, [("latency", None)]),
        ({"golden_unchanged": None}, [("golden", None)]),
    ],
)
def test_what_is_missing_is_a_reason(change: dict[str, Any], failed: list[Any]) -> None:
    found = decide(replace(GOOD, **change), POLICY)
    assert isinstance(found, Refusal)
    assert [(reason.check, reason.language) for reason in found.reasons] == failed


def test_no_data_never_passes() -> None:
    found = decide(Evidence(), Policy())
    assert isinstance(found, Refusal)
    assert {reason.check for reason in found.reasons} == set(CHECKS)
    for check in CHECKS:
        alone = Policy(waived=frozenset(CHECKS) - {check})
        assert isinstance(decide(Evidence(), alone), Refusal)


def test_the_policy_names_languages_that_nobody_measured() -> None:
    found = decide(GOOD, replace(POLICY, languages=("th",)))
    assert isinstance(found, Refusal)
    assert [(r.check, r.language) for r in found.reasons] == [
        ("language", "th"),
        ("calibration", "th"),
        ("int8", "th"),
    ]


def test_few_rows_are_a_reason_where_the_policy_says_so() -> None:
    few = replace(GOOD, comparison=comparison({"de": 0.0, "sw": 0.0}, n=40))
    found = decide(few, replace(POLICY, least_rows=50))
    assert isinstance(found, Refusal)
    assert [reason.found for reason in found.reasons] == [40, 40]


def test_a_policy_without_an_objective_refuses() -> None:
    found = decide(GOOD, Policy())
    assert isinstance(found, Refusal)
    assert [reason.check for reason in found.reasons] == ["latency"]


def test_what_is_waived_is_said() -> None:
    first = replace(GOOD, comparison=None)
    found = decide(first, replace(POLICY, waived=frozenset({"macro", "language"})))
    assert found == Release(("calibration", "int8", "latency", "golden"), ("macro", "language"))
    with pytest.raises(DataError, match="no check is called speed"):
        Policy(waived=frozenset({"speed"}))  # type: ignore[arg-type]


def test_both_outcomes_survive_json() -> None:
    released = json.loads(json.dumps(decide(GOOD, POLICY).to_json()))
    assert released == {"released": True, "passed": list(CHECKS), "waived": []}
    refused = json.loads(json.dumps(decide(replace(GOOD, p95_ms=None), POLICY).to_json()))
    assert refused["released"] is False
    assert refused["reasons"][0]["check"] == "latency"


numbers = st.floats(-0.06, 0.06)
shares = st.floats(0.0, 0.1)
three = st.sampled_from(["de", "sw", "th"])


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    gains = draw(st.dictionaries(three, numbers, max_size=3))
    return Evidence(
        comparison=draw(st.none() | st.just(comparison(gains, low=draw(numbers)))),
        ece=draw(st.dictionaries(three, shares, max_size=3)),
        int8_loss=draw(st.dictionaries(three, st.floats(-0.01, 0.01), max_size=3)),
        p95_ms=draw(st.none() | st.floats(1, 40)),
        golden_unchanged=draw(st.sampled_from([None, False, True])),
    )


@st.composite
def released(draw: st.DrawFn) -> Evidence:
    """Evidence that passes, anywhere up to the limits."""
    languages = draw(st.sets(three, min_size=1))
    gains = {language: draw(st.floats(-0.03, 0.06)) for language in languages}
    return Evidence(
        comparison=comparison(gains, low=draw(st.floats(-0.0099, 0.05))),
        ece={language: draw(st.floats(0.0, 0.05)) for language in languages},
        int8_loss={language: draw(st.floats(-0.01, 0.005)) for language in languages},
        p95_ms=draw(st.floats(1, 20)),
        golden_unchanged=True,
    )


def better(evidence: Evidence, by: list[float]) -> Evidence:
    """Every figure as good or better, over the same languages."""
    found = evidence.comparison
    assert found is not None
    macro = replace(found.macro, low=found.macro.low + by[0])
    languages = {
        language: replace(one, difference=one.difference + by[1], n=one.n + 10)
        for language, one in found.languages.items()
    }
    return replace(
        evidence,
        comparison=replace(found, macro=macro, languages=languages),
        ece={language: max(error - by[2], 0.0) for language, error in evidence.ece.items()},
        int8_loss={language: loss - by[3] for language, loss in evidence.int8_loss.items()},
        p95_ms=(evidence.p95_ms or 1.0) / (1.0 + by[4]),
    )


@given(released(), st.lists(st.floats(0, 0.5), min_size=5, max_size=5))
def test_a_better_report_is_never_refused_where_a_worse_one_passed(
    evidence: Evidence, by: list[float]
) -> None:
    assert isinstance(decide(evidence, POLICY), Release)
    assert isinstance(decide(better(evidence, by), POLICY), Release)


@given(evidences(), st.frozensets(st.sampled_from(CHECKS)))
def test_taking_evidence_away_never_helps(evidence: Evidence, waived: frozenset[Any]) -> None:
    policy = replace(POLICY, languages=("de", "sw", "th"), waived=waived)
    if isinstance(decide(evidence, policy), Refusal):
        for gone in (
            {"comparison": None},
            {"ece": {}},
            {"int8_loss": {}},
            {"p95_ms": None},
            {"golden_unchanged": None},
        ):
            assert isinstance(decide(replace(evidence, **gone), policy), Refusal)


@given(evidences(), st.floats(0, 0.1))
def test_a_looser_policy_gives_no_new_reasons(evidence: Evidence, by: float) -> None:
    loose = Policy(
        p95_ms=20.0 + by, macro_margin=0.01 + by, language_margin=0.03 + by, most_ece=0.05 + by
    )

    def failed(policy: Policy) -> set[tuple[str, str | None]]:
        found = decide(evidence, policy)
        reasons = found.reasons if isinstance(found, Refusal) else ()
        return {(reason.check, reason.language) for reason in reasons}

    assert failed(loose) <= failed(POLICY)
