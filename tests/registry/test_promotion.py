"""A gate's report counts as it was written, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.registry.parts import gate_report, small_models

from xlmr.errors import PromotionError
from xlmr.model.bundle import open_bundle
from xlmr.registry.promotion import check_report


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_models(tmp_path_factory.mktemp("models"), 1)[0]


def check(model: Path, report: dict[str, Any]) -> None:
    check_report(json.loads(json.dumps(report)), answers=open_bundle(model).digest, live=None)


def test_a_report_passes_as_it_was_written(model: Path) -> None:
    check(model, gate_report(model))
    with pytest.raises(PromotionError, match=r"the gate refused it: 2\.0 points worse"):
        check(model, gate_report(model, released=False))


def test_a_verdict_that_was_turned_round_is_found(model: Path) -> None:
    refused = gate_report(model, released=False)
    turned = refused | {"decision": refused["decision"] | {"released": True, "reasons": []}}
    with pytest.raises(PromotionError, match="was edited"):
        check(model, turned)


@pytest.mark.parametrize(
    "part", ["decision", "task", "model", "live", "data", "evidence", "policy"]
)
def test_a_part_that_was_changed_or_taken_away_is_found(model: Path, part: str) -> None:
    report = gate_report(model)
    with pytest.raises(PromotionError, match="was edited"):
        check(model, report | {part: "another"})
    del report[part]
    with pytest.raises(PromotionError, match="not a gate's report"):
        check(model, report)


def test_what_was_added_is_found(model: Path) -> None:
    with pytest.raises(PromotionError, match="was edited"):
        check(model, gate_report(model) | {"note": "looks fine"})
