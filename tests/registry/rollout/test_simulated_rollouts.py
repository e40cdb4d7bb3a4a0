"""Whole rollouts by the default plan, simulated: the good one goes live, the others go back."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from xlmr.registry.rollout.evidence import CANDIDATE, LIVE, Evidence
from xlmr.registry.rollout.plan import make_plan
from xlmr.registry.rollout.verdict import judge

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
PAGE = BENCHMARKS.parent / "docs" / "rollout.md"
GOOD = "as good as the live one"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rollout_benchmark", BENCHMARKS / "rollout.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


BENCHMARK = load()


@pytest.mark.parametrize("shadow", [True, False])
@pytest.mark.parametrize("name", [name for name in BENCHMARK.CANDIDATES if name != GOOD])
def test_a_bad_candidate_goes_back_before_half_of_the_callers_meet_it(
    name: str, shadow: bool
) -> None:
    for seed in range(3):
        behaviour = BENCHMARK.CANDIDATES[name]
        phase, ended, answered, *_ = BENCHMARK.roll(
            np.random.default_rng(seed), behaviour, shadow=shadow
        )
        assert phase == "rolled_back"
        assert ended in (("shadow", "1 %") if shadow else ("1 %", "5 %", "25 %"))
        assert answered < (1000 if shadow else 20_000)


def test_a_good_candidate_goes_live() -> None:
    good = BENCHMARK.CANDIDATES[GOOD]
    ends = Counter(BENCHMARK.roll(np.random.default_rng(seed), good)[0] for seed in range(8))
    assert ends == {"done": 8}


def test_all_tests_of_a_stage_together_keep_the_budget() -> None:
    """Router, harms, labels and signals, in all languages and in each: one budget for all."""
    budget, looks, runs = 0.2, 6, 200
    plan = make_plan(
        {
            "abort_budget": budget,
            "languages": list(BENCHMARK.LANGUAGES),
            "shadow": {"share": 0.0},
            "required": [],
            "steps": [{"share": 0.25}],
            "label_mix": {"margin": 0.0},
            "confidence": {"margin": 0.0},
        }
    )
    alike = BENCHMARK.Behaviour(
        harms={"5xx": 0.05, "timeout": 0.1, "over_objective": 0.2, "low_confidence": 0.3}
    )
    rng = np.random.default_rng(30)
    aborted = 0
    for _ in range(runs):
        evidence = Evidence()
        for _ in range(looks):
            arms = {
                CANDIDATE: BENCHMARK.counts(rng, alike, 250),
                LIVE: BENCHMARK.counts(rng, alike, 750),
            }
            evidence += Evidence(arms=arms)
            if judge(evidence, plan, 0, 1.0).outcome == "abort":
                aborted += 1
                break
    assert aborted / runs <= budget


def test_tables_are_written_between_their_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "rollout.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    rows = {name: lambda: iter(["| new | row |"]) for name in BENCHMARK.TABLES}
    monkeypatch.setattr(BENCHMARK, "TABLES", rows)
    monkeypatch.setattr(sys, "argv", ["rollout.py", "--page", str(page)])
    BENCHMARK.main()
    once = page.read_text(encoding="utf-8")
    assert once.count("| new | row |") == len(rows)
    BENCHMARK.main()
    assert page.read_text(encoding="utf-8") == once
    kept = [line for line in PAGE.read_text("utf-8").splitlines() if not line.startswith("| ")]
    assert [line for line in once.splitlines() if not line.startswith("| ")] == kept


def test_a_page_without_markers_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "other.md"
    page.write_text("nothing", encoding="utf-8")
    monkeypatch.setattr(BENCHMARK, "TABLES", {"medians": lambda: iter(["| new |"])})
    monkeypatch.setattr(sys, "argv", ["rollout.py", "--page", str(page)])
    with pytest.raises(SystemExit, match="no markers"):
        BENCHMARK.main()
    assert page.read_text(encoding="utf-8") == "nothing"
