"""`xlmr bench serve` against our own server, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.tiny import tiny_model

from xlmr.cli.bench import bench_command


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(bench_command, ["serve", *arguments])
    return result.exit_code, result.output


def test_our_own_server_is_started_asked_and_stopped(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, "classify")
    out = tmp_path / "load.json"
    code, said = run(
        *("--model", str(model), "--task", "classify", "--rate", "20"),
        *("--rate", "40", "--seconds", "1", "--objective-ms", "5000", "--json", str(out)),
    )
    assert code == 0, said
    assert "xlmr" in said
    found = json.loads(out.read_text())
    [turn] = found["servers"]["xlmr"]
    assert turn["highest_rate"] == 40
    assert turn["beyond"] is None
    assert [set(level["statuses"]) for level in turn["levels"]] == [{"200"}, {"200"}]
    assert all(0 < level["p50"] <= level["p99"] < 5 for level in turn["levels"])


def test_texts_of_a_file_are_asked(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, "embed")
    texts = tmp_path / "texts.txt"
    texts.write_text("hello\nworld\n")
    code, said = run(
        *("--model", str(model), "--texts", str(texts), "--rate", "20", "--seconds", "1"),
        *("--objective-ms", "5000", "--json", "-"),
    )
    assert code == 0, said
    [turn] = json.loads(said[said.index("{") :])["servers"]["xlmr"]
    assert turn["levels"][0]["statuses"].keys() == {"200"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((), "--model"), (("127.0.0.1:80",), "NAME="), (("a=ftp://b",), "http://HOST:PORT")],
)
def test_nothing_to_ask_is_said(arguments: tuple[str, ...], said: str) -> None:
    code, output = run(*arguments)
    assert code == 1
    assert said in output
