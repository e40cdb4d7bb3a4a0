from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.tiny import tiny_model

from xlmr.cli.bench import bench_command
from xlmr.errors import InputError, SettingsError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("bench"), "embed")


def bench(*arguments: str | Path, input: str | None = None) -> Result:
    return CliRunner().invoke(
        bench_command,
        ["engine", "--threads", "1", "--seconds", "0", *map(str, arguments)],
        input=input,
    )


@pytest.mark.parametrize("precision", ["int8", "bf16", "fp32"])
def test_workloads_from_standard_input(model: Path, precision: str) -> None:
    before = sorted(model.iterdir())
    given = json.dumps({"two": [3, 9], "één": [512]})
    done = bench("--shape", model, "--precision", precision, "--workloads", "-", input=given)
    assert done.exit_code == 0, done.output
    times = json.loads(done.stdout)
    assert list(times) == ["two", "één"]
    assert all(isinstance(seconds, float) and seconds > 0 for seconds in times.values())
    assert sorted(model.iterdir()) == before, "the model directory is read only"


def test_workloads_the_model_cannot_read(model: Path) -> None:
    done = bench("--shape", model, "--workloads", "-", input='{"a": [4, 513]}')
    assert isinstance(done.exception, InputError)
    assert str(done.exception) == "$.a[1]: 513 tokens; a text has 1 to 512"
    assert done.stdout == ""


def test_the_contest_as_json(model: Path) -> None:
    done = bench("--shape", model, "--workload", "1x16", "--json", "-")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["shape"] == "embed"
    assert list(said["workloads"]) == ["1x16"]
    assert said["workloads"]["1x16"]["runtimes"]["xlmr int8"]["median_s"] > 0


def test_the_contest_as_a_table_and_a_file(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    done = bench("--shape", model, "--workload", "1x16", "--workload", "mixed", "--json", file)
    assert done.exit_code == 0, done.output
    assert "1x16" in done.stdout
    assert "mixed" in done.stdout
    assert set(json.loads(file.read_text())["workloads"]) == {"1x16", "mixed"}


def test_options_that_exclude_each_other(model: Path) -> None:
    done = bench("--shape", model, "--workloads", "-", "--peers", input="{}")
    assert done.exit_code == 2
    assert "--workloads times ours alone" in done.output


def test_a_shape_that_is_neither(tmp_path: Path) -> None:
    done = bench("--shape", tmp_path / "none")
    assert isinstance(done.exception, SettingsError)
    assert "base" in done.exception.hint
