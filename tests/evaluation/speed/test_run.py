from __future__ import annotations

import importlib.util
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from xlmr.errors import MissingExtraError, SettingsError
from xlmr.evaluation.speed.chart import draw
from xlmr.evaluation.speed.machine import describe_machine
from xlmr.evaluation.speed.peers import PEERS
from xlmr.evaluation.speed.run import Plan, Result, run, time_ours
from xlmr.evaluation.speed.subject import SHAPES, open_subject, random_subject
from xlmr.evaluation.speed.table import WIDTH, as_markdown, as_rich
from xlmr.model.runtimes import _native

TINY = replace(SHAPES["small"], vocabulary=90, hidden=64, layers=2, heads=2, intermediate=128)
TORCH = next(peer for peer in PEERS if peer.name == "torch fp32")
ABSENT = replace(TORCH, name="torch fp8", precision="fp8", least_cosine=2.0)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan(
        subject=random_subject("tiny", config=TINY),
        precision="int8",
        threads=1,
        workloads={"pair": (3, 5), "one": (16,)},
        seconds=0.0,
        peers=(TORCH, ABSENT),
    )


@pytest.fixture(scope="module")
def result(plan: Plan) -> Result:
    return run(plan)


def test_a_run_says_who_was_how_fast_where_and_when(result: Result) -> None:
    written = json.loads(json.dumps(result.to_json()))
    assert list(written["versions"]) == ["xlmr int8", "torch fp32"]
    assert written["date"].endswith("+00:00")
    assert written["machine"]["kernels"] in _native.instruction_sets()
    assert written["parity_cosines"]["torch fp32"] > 0.9999
    pair = written["workloads"]["pair"]
    assert pair["tokens"] == 8
    assert pair["best_peer"] == "torch fp32"
    assert pair["runtimes"]["xlmr int8"]["rounds"] >= 3
    if "int8" in pair["ceiling_gops"]:
        assert pair["ceiling_share"] > 0


def test_a_peer_that_cannot_take_part_is_skipped_with_a_word(result: Result) -> None:
    assert "computes something else" in result.skipped["torch fp8"]
    assert "torch fp8" not in result.versions


def test_the_tables_hold_every_workload_and_runtime(result: Result) -> None:
    markdown = as_markdown(result.to_json())
    assert "| workload | tokens | xlmr int8 | torch fp32 | ours / best peer |" in markdown
    assert "| pair | 8 | **" in markdown
    assert "× torch fp32 |" in markdown
    shown = io.StringIO()
    Console(width=WIDTH, file=shown).print(as_rich(result))
    assert "pair" in shown.getvalue()
    assert "×" in shown.getvalue()


def test_the_picture_is_drawn_or_the_extra_is_named(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "chart.png"
    if importlib.util.find_spec("matplotlib") is None:
        with pytest.raises(MissingExtraError, match=r"xlmr\[bench\]"):
            draw(result, path)
        return
    draw(result, path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_ours_alone(plan: Plan) -> None:
    told = []
    times = time_ours(plan, on_turn=told.append)
    assert list(times) == ["pair", "one"]
    assert all(seconds > 0 for seconds in times.values())
    assert told[-1].done == 1.0


def test_a_shape_nobody_knows_is_refused() -> None:
    with pytest.raises(SettingsError, match="neither a shape nor a model directory"):
        open_subject("enormous")


def test_shapes_are_those_of_the_models() -> None:
    # Encoder parameters: 85 M for base, 302 M for large; two operations each.
    assert SHAPES["base"].operations_per_token == 2 * 84_934_656
    assert SHAPES["large"].operations_per_token == 2 * 301_989_888
    assert {shape.max_tokens for shape in SHAPES.values()} == {512}


def test_the_machine_is_described_without_its_name(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Abacus 9\n\nmodel name\t: Abacus 9\n")
    machine = describe_machine(file)
    assert machine["processor"] == "Abacus 9"
    assert machine["usable_cores"] <= machine["cores"]
    assert describe_machine(tmp_path / "none")["processor"]


@pytest.mark.parametrize("isa", _native.instruction_sets())
def test_every_instruction_set_has_a_ceiling(isa: str) -> None:
    rates = _native.ceiling(1, isa, 1.0)
    assert set(rates) <= {"int8", "bf16", "fp32"}
    assert "fp32" in rates
    assert all(rate > 0 for rate in rates.values())


def test_narrower_numbers_are_faster() -> None:
    """A dot product of bytes does at least twice the work of a float's, whatever else runs."""
    if "avx512vnni" not in _native.instruction_sets():
        pytest.skip("needs AVX-512 VNNI")
    measured = [_native.ceiling(1, "avx512vnni", 2.0) for _ in range(5)]
    best = {kind: max(rates[kind] for rates in measured) for kind in measured[0]}
    assert best["int8"] > 2 * best["fp32"]


def test_a_ceiling_nobody_has_is_refused() -> None:
    with pytest.raises(ValueError, match="threads"):
        _native.ceiling(0)
    with pytest.raises(ValueError, match="no kernels named abacus"):
        _native.ceiling(1, "abacus")
