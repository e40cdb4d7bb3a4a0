from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.registry.rollout.comparisons import budgets, odds
from xlmr.registry.rollout.evidence import CANDIDATE, HARMS, LIVE, Counts, Evidence, Pairs
from xlmr.registry.rollout.plan import make_plan
from xlmr.registry.rollout.verdict import Outcome, Verdict, judge

PLAN = make_plan({"objective_ms": 100.0, "languages": ["de", "sw"]})
SHADOW, ONE, FIVE, QUARTER, HALF = range(5)
LONG = 7200.0


def seen(
    candidate: dict[str, Counts], live: dict[str, Counts], pairs: dict[str, Pairs] | None = None
) -> Evidence:
    return Evidence(arms={CANDIDATE: candidate, LIVE: live}, pairs=pairs or {})


def fair(units: int, step: int, *, live: dict[str, int] | None = None, **events: int) -> Evidence:
    """Half German, half Swahili; events of the candidate are German."""
    share = PLAN.stages[step].null_share
    other = round(units / share * (1.0 - share))
    mine = {
        "de": Counts(units=units - units // 2, events=dict(events)),
        "sw": Counts(units=units // 2),
    }
    theirs = {
        "de": Counts(units=other - other // 2, events=live or {}),
        "sw": Counts(units=other // 2),
    }
    pairs = {"de": Pairs(compared=units, disagreed=units // 50)} if step == SHADOW else {}
    return seen(mine, theirs, pairs)


def outcome(evidence: Evidence, step: int, elapsed_s: float = LONG, **plan: Any) -> Outcome:
    return judge(evidence, make_plan(PLAN.to_json() | plan), step, elapsed_s).outcome


def reasons_of(verdict: Verdict) -> list[str]:
    return [reason.test for reason in verdict.reasons]


@pytest.mark.parametrize("step", range(5))
def test_a_clean_candidate_goes_on_at_every_step(step: int) -> None:
    verdict = judge(fair(PLAN.stages[step].units * 2, step), PLAN, step, LONG)
    assert verdict.outcome == "advance", verdict.sentence
    assert verdict.reasons == ()
    following = ["1", "5", "25", "50", "100"][step]
    assert verdict.sentence.startswith(f"On to {following} %: ")


@pytest.mark.parametrize("step", range(5))
def test_no_data_never_passes(step: int) -> None:
    assert judge(Evidence(), PLAN, step, 0.0).outcome == "hold"
    late = judge(Evidence(), PLAN, step, 1e9)
    assert late.outcome == "inconclusive"
    assert late.sentence.startswith("Undecided after ")
    bare = make_plan(
        {
            "ignore": [*HARMS[1:], "label_mix"],
            "required": [],
            "margin": 1.0,
            "shadow": {"units": 1, "minutes": 0},
            "steps": [{"share": s, "units": 1, "minutes": 0} for s in (0.01, 0.05, 0.25, 0.5)],
        }
    )
    assert judge(Evidence(), bare, step, 1e9).outcome == "inconclusive"


def test_a_candidate_without_requests_is_a_broken_router_not_a_good_version() -> None:
    verdict = judge(seen({}, {"de": Counts(units=5000)}), PLAN, FIVE, LONG)
    assert verdict.outcome == "abort"
    assert reasons_of(verdict) == ["sample_ratio"]


def test_the_router_comes_first_and_nothing_else_is_said() -> None:
    evidence = seen(
        {"de": Counts(units=2000, events={"non_finite": 50})}, {"de": Counts(units=10_000)}
    )
    verdict = judge(evidence, PLAN, FIVE, LONG)
    assert verdict.outcome == "abort"
    assert reasons_of(verdict) == ["sample_ratio"]
    assert [finding.test for finding in verdict.findings] == ["sample_ratio"]
    assert "16.7 % of 12,000 requests" in verdict.sentence
    assert "5 % were due" in verdict.sentence


@pytest.mark.parametrize("harm", ["non_finite", "golden_mismatch"])
def test_what_no_version_may_do_is_over_at_once(harm: str) -> None:
    verdict = judge(fair(10, FIVE, **{harm: 1}), PLAN, FIVE, 1.0)
    assert verdict.outcome == "abort"
    assert f"{harm} on 1 request of the candidate" in verdict.sentence
    allowed = fair(1000, FIVE, **{harm: 1}, live={harm: 19})
    assert outcome(allowed, FIVE, harms={harm: {"most": 1}}) == "advance"
    assert outcome(allowed, FIVE, ignore=[harm]) == "advance"


@pytest.mark.parametrize("harm", ["5xx", "timeout", "over_objective"])
def test_a_harmful_candidate_goes_back_before_its_time(harm: str) -> None:
    verdict = judge(fair(600, FIVE, **{harm: 30}, live={harm: 12}), PLAN, FIVE, 1.0)
    assert verdict.outcome == "abort"
    assert verdict.sentence.startswith(
        f"Back: {harm} on 30 of 600 requests of the candidate and 12 "
    )
    assert "equals would show this" in verdict.sentence
    assert any(finding.proven for finding in verdict.findings)


def test_harm_that_both_versions_do_alike_is_no_reason_to_go_back() -> None:
    verdict = judge(fair(600, FIVE, timeout=30, live={"timeout": 570}), PLAN, FIVE, LONG)
    assert verdict.outcome != "abort"


def test_harm_below_the_ratio_that_the_plan_lets_pass_is_none() -> None:
    evidence = fair(20_000, HALF, timeout=1_000, live={"timeout": 700})
    assert outcome(evidence, HALF) == "abort"
    assert outcome(evidence, HALF, harm_ratio=1.5, margin=0.1) == "advance"


def test_a_single_language_is_found_and_named() -> None:
    mine = {"de": Counts(units=3000), "sw": Counts(units=60, events={"timeout": 16})}
    theirs = {
        "de": Counts(units=57_000, events={"timeout": 400}),
        "sw": Counts(units=1200, events={"timeout": 8}),
    }
    verdict = judge(seen(mine, theirs), PLAN, FIVE, LONG)
    assert verdict.outcome == "abort"
    assert verdict.reasons[0].language == "sw"
    assert "in sw" in verdict.sentence
    unnamed = make_plan(PLAN.to_json() | {"languages": []})
    assert judge(seen(mine, theirs), unnamed, FIVE, LONG).outcome != "abort"


def test_every_language_named_must_have_been_seen() -> None:
    evidence = seen({"de": Counts(units=3000)}, {"de": Counts(units=57_000)})
    verdict = judge(evidence, PLAN, FIVE, LONG)
    assert verdict.outcome == "hold"
    assert [(r.test, r.language) for r in verdict.reasons] == [("languages", "sw")]
    assert judge(evidence, PLAN, FIVE, 90_000.0).outcome == "inconclusive"


@pytest.mark.parametrize(
    ("units", "elapsed_s", "reason"), [(400, LONG, "units"), (1000, 60.0, "minutes")]
)
def test_a_step_takes_its_time_and_its_requests(units: int, elapsed_s: float, reason: str) -> None:
    verdict = judge(fair(units, FIVE), PLAN, FIVE, elapsed_s)
    assert verdict.outcome == "hold"
    assert reasons_of(verdict) == [reason]


def test_enough_requests_are_not_enough_while_harm_may_exceed_the_margin() -> None:
    few = fair(2000, HALF, timeout=100, live={"timeout": 100})
    verdict = judge(few, PLAN, HALF, LONG)
    assert verdict.outcome == "hold"
    assert reasons_of(verdict) == ["timeout"]
    many = fair(100_000, HALF, timeout=5000, live={"timeout": 5000})
    assert judge(many, PLAN, HALF, LONG).outcome == "advance"


def test_the_margin_is_of_all_requests_so_small_steps_need_little() -> None:
    evidence = fair(600, FIVE, timeout=6, live={"timeout": 114})
    assert outcome(evidence, FIVE, margin=0.05) == "advance"
    assert outcome(evidence, FIVE, margin=0.001) == "hold"


def test_what_counts_is_the_share_of_the_step_to_come() -> None:
    evidence = fair(600, FIVE, timeout=6, live={"timeout": 114})

    def with_next(share: float) -> Outcome:
        steps = [{"share": s, "units": 1} for s in (0.05, share)]
        plan = make_plan(PLAN.to_json() | {"steps": steps})
        return judge(evidence, plan, 1, LONG).outcome

    assert with_next(0.06) == "advance"
    assert with_next(0.9) == "hold"


def test_a_plan_without_objective_does_not_pass() -> None:
    verdict = judge(fair(1000, FIVE), make_plan({}), FIVE, LONG)
    assert reasons_of(verdict) == ["objective_ms"]


def labelled(units: int, **labels: int) -> Counts:
    return Counts(units=units, labels=labels)


def test_shuffled_labels_go_back_and_small_shifts_do_not() -> None:
    theirs = {"de": labelled(11_400, a=7600, b=3800), "sw": Counts(units=7600)}
    shuffled = {"de": labelled(600, a=200, b=400), "sw": Counts(units=400)}
    verdict = judge(seen(shuffled, theirs), PLAN, FIVE, LONG)
    assert verdict.outcome == "abort"
    assert "label_mix" in reasons_of(verdict)
    alike = {"de": labelled(600, a=395, b=205), "sw": Counts(units=400)}
    assert judge(seen(alike, theirs), PLAN, FIVE, LONG).outcome == "advance"


def test_a_proven_but_small_shift_is_a_finding_and_no_reason() -> None:
    mine = {"de": labelled(500_000, a=255_000, b=245_000), "sw": Counts(units=500)}
    theirs = {"de": labelled(500_000, a=250_000, b=250_000), "sw": Counts(units=500)}
    verdict = judge(seen(mine, theirs), PLAN, HALF, LONG)
    assert verdict.outcome == "advance"
    mix = next(f for f in verdict.findings if f.test == "label_mix")
    assert mix.log_e > mix.threshold
    assert not mix.proven


def test_disagreement_in_the_shadow_goes_back_or_waits() -> None:
    def with_disagreement(disagreed: int, compared: int = 600) -> Evidence:
        pairs = {"de": Pairs(compared=compared, disagreed=disagreed)}
        arm = {"de": Counts(units=600), "sw": Counts(units=60)}
        return seen(arm, arm, pairs)

    assert judge(with_disagreement(20), PLAN, SHADOW, LONG).outcome == "advance"
    near = judge(with_disagreement(115), PLAN, SHADOW, LONG)
    assert near.outcome == "hold"
    assert reasons_of(near) == ["disagreement"]
    worse = judge(with_disagreement(300), PLAN, SHADOW, LONG)
    assert worse.outcome == "abort"
    assert "300 of 600 texts" in worse.sentence
    none = judge(with_disagreement(0, 0), PLAN, SHADOW, LONG)
    assert reasons_of(none) == ["disagreement"]


def test_known_answers_count_in_pairs() -> None:
    arm = {"de": Counts(units=600), "sw": Counts(units=60)}

    def answered(live_only: int, candidate_only: int) -> Evidence:
        pairs = Pairs(
            compared=600,
            disagreed=60,
            labelled=300,
            live_only=live_only,
            candidate_only=candidate_only,
        )
        return seen(arm, arm, {"de": pairs})

    assert "label_errors" in reasons_of(judge(answered(45, 5), PLAN, SHADOW, LONG))
    assert judge(answered(5, 45), PLAN, SHADOW, LONG).outcome == "advance"
    required = make_plan(PLAN.to_json() | {"required": ["label_errors", "label_mix"]})
    missing = judge(seen(arm, arm, {"de": Pairs(compared=9)}), required, SHADOW, LONG)
    assert reasons_of(missing) == ["label_mix", "label_errors"]


@pytest.mark.parametrize(
    ("signal", "event"),
    [
        ("abstention", "abstention"),
        ("confidence", "low_confidence"),
        ("negative_feedback", "negative_feedback"),
    ],
)
def test_signals_go_back_where_the_difference_matters(signal: str, event: str) -> None:
    many = fair(2000, QUARTER, **{event: 600}, live={event: 300})
    assert outcome(many, QUARTER) == "abort"
    assert outcome(many, QUARTER, ignore=[signal]) == "advance"
    fewer = fair(200_000, QUARTER, **{event: 4000}, live={event: 9000})
    assert outcome(fewer, QUARTER) == "advance"


def test_callers_are_counted_as_callers() -> None:
    plan = make_plan(PLAN.to_json() | {"unit": "caller"})
    assert "callers" in judge(fair(10, FIVE), plan, FIVE, LONG).sentence


@settings(deadline=None)
@given(st.lists(st.sampled_from(["de", "sw", "zh", "fr"]), unique=True), st.booleans())
def test_the_budget_is_spent_once(languages: list[str], shadow: bool) -> None:
    plan = make_plan(
        {"languages": languages} | ({} if shadow else {"shadow": {"share": 0}, "required": []})
    )
    spent = math.fsum(budgets(plan).values()) * len(plan.stages)
    assert spent == pytest.approx(plan.abort_budget)


def test_harms_and_all_languages_together_get_most_of_the_budget() -> None:
    """0.01 over five stages; three harms are compared, in all languages and in two."""
    found = budgets(PLAN)
    assert found["sample_ratio", None] == pytest.approx(0.01 / 5 * 0.1)
    assert found["timeout", None] == pytest.approx(0.01 / 5 * 0.7 / 3 / 2)
    assert found["timeout", "sw"] == pytest.approx(0.01 / 5 * 0.7 / 3 / 4)
    assert found["label_mix", "sw"] == pytest.approx(0.01 / 5 * 0.2 / 6 / 4)
    assert ("non_finite", None) not in found
    assert budgets(make_plan({}))["timeout", None] == pytest.approx(0.01 / 5 * 0.7 / 3)


EVENTS = st.integers(0, 60)


@settings(deadline=None)
@given(EVENTS, EVENTS, EVENTS, st.integers(0, 4), st.floats(0.0, 1e6))
def test_one_more_harm_never_makes_a_verdict_better(
    mine: int, theirs: int, more: int, step: int, elapsed_s: float
) -> None:
    order = ["abort", "inconclusive", "hold", "advance"]
    share = PLAN.stages[step].null_share
    if theirs > 300 / share * (1 - share) / 2:
        theirs = 0
    before = judge(fair(300, step, timeout=mine, live={"timeout": theirs}), PLAN, step, elapsed_s)
    after = judge(
        fair(300, step, timeout=mine + more, live={"timeout": theirs}), PLAN, step, elapsed_s
    )
    assert order.index(after.outcome) <= order.index(before.outcome)


@settings(deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 4))
def test_any_counts_give_a_verdict_that_json_can_hold(mine: int, theirs: int, step: int) -> None:
    evidence = seen(
        {"de": Counts(units=mine, events={"5xx": mine // 2})},
        {"de": Counts(units=theirs, events={"5xx": theirs // 3})},
    )
    verdict = judge(evidence, PLAN, step, LONG)
    text = json.dumps(verdict.to_json(), allow_nan=False)
    assert json.loads(text)["outcome"] == verdict.outcome
    assert verdict.sentence.endswith(".")


def test_odds_are_words() -> None:
    assert odds(math.log(12_345.0)) == "at most once in 12,000 times"
    assert odds(math.log(101.0)) == "at most once in 100 times"
    assert odds(math.log(5.5)) == "at most once in 5 times"
    assert odds(1e9) == "less than once in a billion times"


def test_a_stage_or_time_that_cannot_be_is_refused() -> None:
    for step in (-1, 5):
        with pytest.raises(IndexError):
            judge(Evidence(), PLAN, step, 0.0)
    with pytest.raises(ValueError, match="number"):
        judge(Evidence(), PLAN, 0, math.nan)
    assert judge(Evidence(), PLAN, 0, -5.0).elapsed_s == 0.0
