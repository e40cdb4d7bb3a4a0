from __future__ import annotations

import json
import tomllib

import pytest

from xlmr.errors import SettingsError
from xlmr.registry.rollout.plan import DEFAULT_PLAN, Limit, Plan, make_plan, parse_plan


def test_defaults_go_from_the_shadow_to_everybody() -> None:
    plan = make_plan({})
    assert [stage.name for stage in plan.stages] == ["shadow", "1 %", "5 %", "25 %", "50 %"]
    assert [stage.next_share for stage in plan.stages] == [0.01, 0.05, 0.25, 0.5, 1.0]
    assert [stage.null_share for stage in plan.stages] == [0.5, 0.01, 0.05, 0.25, 0.5]
    assert all(stage.units >= 1 and stage.minutes > 0.0 for stage in plan.stages)
    assert plan.watched_harms == (
        "5xx",
        "timeout",
        "non_finite",
        "over_objective",
        "golden_mismatch",
    )
    assert plan.abort_budget == 0.01
    assert {harm: plan.most(harm) for harm in plan.watched_harms} == {
        "5xx": None,
        "timeout": None,
        "non_finite": 0,
        "over_objective": None,
        "golden_mismatch": 0,
    }


def test_the_default_plan_as_a_file_is_the_default_plan() -> None:
    assert parse_plan(DEFAULT_PLAN) == make_plan({})
    for key in ("languages", "objective_ms", "harms", "watch"):
        assert key in DEFAULT_PLAN
    assert set(tomllib.loads(DEFAULT_PLAN)) == set(Plan.__struct_fields__) - {"objective_ms"}


def test_json_holds_every_value_and_comes_back() -> None:
    plan = parse_plan(
        """
        languages = ["sw"]
        objective_ms = 80.0
        required = ["disagreement", "label_mix"]
        [[steps]]
        share = 0.1
        units = 7
        [harms.non_finite]
        [harms.5xx]
        most = 3
        """
    )
    assert plan.most("non_finite") is None
    assert plan.most("5xx") == 3
    assert plan.most("golden_mismatch") == 0
    assert make_plan(json.loads(json.dumps(plan.to_json()))) == plan
    assert make_plan(json.loads(json.dumps(make_plan({}).to_json()))) == make_plan({})
    assert make_plan({}).to_json() == Plan().to_json()


def test_what_a_file_leaves_open_can_be_filled_in_but_not_changed() -> None:
    filled = make_plan({}).completed(languages=["de", "sw", "de"], objective_ms=120.0)
    assert filled.languages == ("de", "sw")
    assert filled.objective_ms == 120.0
    kept = make_plan({"languages": ["zh"], "objective_ms": 5.0}).completed(
        languages=["de"], objective_ms=120.0
    )
    assert (kept.languages, kept.objective_ms) == (("zh",), 5.0)


def test_a_plan_without_shadow_says_that_nothing_is_required_of_it() -> None:
    plan = make_plan({"shadow": {"share": 0.0}, "required": []})
    assert plan.stages[0].name == "1 %"


def test_limits_are_values() -> None:
    assert make_plan({"harms": {"timeout": {}}}).harms["timeout"] == Limit(None)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("margins = 0.1", "`margins`"),
        ("margin = 0.0", "`margin`"),
        ("margin = nan", "`margin`"),
        ("margin = inf", "`margin`"),
        ("abort_budget = 0.9", "`abort_budget`"),
        ("unit = 'user'", "`unit`"),
        ("units_per_language = true", "`units_per_language`"),
        ("units_per_language = 0", "`units_per_language`"),
        ("harm_ratio = 0.5", "`harm_ratio`"),
        ("objective_ms = 0", "`objective_ms`"),
        ("languages = ['de', 'de']", "`languages`"),
        ("languages = ['']", "`languages`"),
        ("required = ['abstention']", "`required[0]`"),
        ("ignore = ['4xx']", "`ignore[0]`"),
        ("ignore = ['disagreement']", "`required`"),
        (
            "ignore = ['5xx', 'timeout', 'non_finite', 'over_objective', 'golden_mismatch']",
            "`ignore`",
        ),
        ("steps = []", "`steps`"),
        ("steps = [{share = 0.5}, {share = 0.5}]", "`steps[1].share`"),
        ("steps = [{share = 0.5}, {share = 0.1}]", "`steps[1].share`"),
        ("steps = [{share = 1.0}]", "`steps[0].share`"),
        ("steps = [{share = 0.0}]", "`steps[0].share`"),
        ("steps = [{share = nan}]", "`steps[0].share`"),
        ("steps = [{share = 0.00001}]", "`steps[0].share`"),
        ("steps = [{share = '5 %'}]", "`steps[0].share`"),
        ("steps = [{share = 0.1, units = 0}]", "`steps[0].units`"),
        ("steps = [{share = 0.1, minutes = inf}]", "`steps[0].minutes`"),
        ("steps = [{units = 3}]", "`share`"),
        (
            "steps = [{share = 0.1, minutes = 9, patience_minutes = 8}]",
            "`steps[0].patience_minutes`",
        ),
        ("[shadow]\nshare = 0.0", "`required`"),
        ("[shadow]\npatience_minutes = 1", "`shadow.patience_minutes`"),
        ("[shadow]\nunit = 1", "`shadow`"),
        ("[harms.slow]\nmost = 1", "`harms`"),
        ("[harms.5xx]\nmost = -1", "`harms[...].most`"),
        ("[watch]\nallowed = 0.0", "`watch.allowed`"),
        ("margin = ", "end of document"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_by_its_key(text: str, place: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_plan(text, origin="canary.toml")
    assert caught.value.message.startswith("canary.toml: ")
    assert place in caught.value.message
    assert "$" not in caught.value.message
    assert caught.value.hint
