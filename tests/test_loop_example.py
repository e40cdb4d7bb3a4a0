"""`examples/loop`: how rows are dealt out, what changes, who asks, and what ends it."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from xlmr.cli.main import cli
from xlmr.cli.rollout_place import read_plan

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "loop"
LANGUAGES = ("en", "de", "tr")
LABELS = ("health", "politics", "sports")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield SimpleNamespace(house=__import__("house"), turn=__import__("turn"))
    for name in ("house", "turn"):
        del sys.modules[name]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("eng_Latn", "deu_Latn", "tur_Latn", "fra_Latn"):
        rows = [{"id": n, "text": f"{name} {n}", "label": LABELS[n % 3]} for n in range(90)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.train.jsonl").write_text(lines)
    return tmp_path


def test_no_part_knows_a_translation_of_another(parts: SimpleNamespace, data: Path) -> None:
    rows = parts.house.deal(data, LANGUAGES, "politics", seed=0)
    seen = [{row.id for row in part} for part in (rows.learned, rows.asked, rows.held_out)]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    assert {row.language for row in rows.learned} == {"en"}
    assert {row.language for row in rows.asked} == set(LANGUAGES)
    assert sum(row.label == "politics" for row in rows.learned) == 3
    assert len(rows.held_out) == 81


def test_a_language_without_rows_is_said(parts: SimpleNamespace, data: Path) -> None:
    with pytest.raises(parts.house.TurnError, match="no rows in each of en, sw"):
        parts.house.deal(data, ("en", "sw"), "politics", seed=0)


def test_only_the_language_that_drifts_asks_for_what_is_new(
    parts: SimpleNamespace, data: Path
) -> None:
    rows = parts.house.deal(data, LANGUAGES, "politics", seed=0).asked
    changed = parts.house.drifted(rows, "tr", "politics")
    theirs = [row.label == "politics" for row in changed if row.language == "tr"]
    assert sum(theirs) * 4 == len(theirs) * 3
    assert not [row for row in changed if row.language != "tr" and row.label == "politics"]


def test_people_remember_what_they_meant(parts: SimpleNamespace) -> None:
    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if said["input"] == "lost":
                self.send_error(500)
                return
            item = {"id": f"{said['input']}-0", "labels": [{"label": "health"}]}
            body = json.dumps({"items": [item], "model": {"version": "1"}}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        people = parts.house.People(f"http://127.0.0.1:{server.server_port}", seed=0)
        row = parts.house.Row("1", "one", "sports", "tr")
        with people.going_on([row]):
            parts.turn.until("a request", lambda: people.asked)
        assert people.labels == {"one-0": "sports"}
        assert people.versions == {"1": people.asked}
        lost = parts.house.Row("2", "lost", "sports", "tr")
        with pytest.raises(parts.house.TurnError, match="a request was lost"):
            people.draw([lost], 1)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_is_not_so_ends_it(
    parts: SimpleNamespace,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--data", str(data), "--encoder", str(data / "absent"), "--state", str(data / "s")]
    assert parts.turn.main(words) == 1
    assert "`xlmr train` ended with" in capsys.readouterr().err
    with pytest.raises(parts.house.TurnError, match="not so: the drift"):
        parts.turn.check(False, "the drift cost accuracy")
    monkeypatch.setattr(parts.turn, "PATIENCE_S", 0.0)
    with pytest.raises(parts.house.TurnError, match="alarms: not within 0 s"):
        parts.turn.until("alarms", lambda: None)


def test_plan_and_options_are_what_the_verbs_know(parts: SimpleNamespace, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(parts.house.PLAN)
    assert [stage.share for stage in read_plan(plan).stages] == [1.0, 0.25, 0.5]
    known = {
        option for command in _commands(cli) for each in command.params for option in each.opts
    }
    said = {
        word
        for path in EXAMPLE.glob("*.py")
        for word in re.findall(r'"(--[a-z-]+)"', path.read_text("utf-8"))
    }
    own = {"--languages", "--new", "--requests", "--labels", "--state"}
    assert said - own <= known


def _commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from _commands(found)
