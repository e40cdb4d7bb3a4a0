from __future__ import annotations

import contextlib
import http.server
import json
import threading

import pytest
from click.testing import CliRunner
from rich.console import Console

from xlmr.cli import top
from xlmr.cli.main import cli
from xlmr.cli.top_view import top_view
from xlmr.errors import DataError, SettingsError
from xlmr.levels.glance import glance
from xlmr.telemetry.metrics import Item, Metrics


@contextlib.contextmanager
def answering(page, status=200):
    """A server with one page; yields its address and what it was asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("authorization")))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(page())

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def metrics():
    metrics = Metrics()
    where = {"task": "classify", "model": "router", "version": "3"}
    metrics.watch_models(lambda: [("router", "3", "ready"), ("router", "4", "failed")])
    metrics.watch_memory(lambda: {"server": 3 * 2.0**30})
    for _ in range(3):
        metrics.request(**where, code="ok", seconds=0.003, stages=[("infer", 0.002)])
    metrics.request(**where, code="engine_error", seconds=0.003)
    metrics.items([Item("sw", "ok", confidence=0.75, abstained=False)], **where, computed=7)
    metrics.routed("router", "3")
    metrics.shed("queue_full")
    metrics.shadowed("agreed")
    return metrics


def test_once_for_machines(metrics):
    with answering(metrics.export) as (address, asked):
        words = ["top", address, "--once", "--json", "--key-file", "-"]
        done = CliRunner().invoke(cli, words, input="k\n")
    assert done.exit_code == 0, done.output
    shown = json.loads(done.output)
    assert shown["requests"]["codes"] == {"ok": 3, "engine_error": 1}
    assert shown["requests"]["failed"] == 1
    assert shown["seconds"] > 0
    assert [m["state"] for m in shown["models"]] == ["ready", "failed"]
    assert shown["routes"] == [{"model": "router", "arm": "3", "requests": 1}]
    assert asked == [("/metrics", "Bearer k")]


def test_once_for_people(metrics):
    with answering(metrics.export) as (address, _):
        done = CliRunner().invoke(cli, ["top", address + "/", "--once"], terminal_width=200)
    assert done.exit_code == 0, done.output
    for said in ("1 failed", "router@3", "router@4", "sw", "75 %", "3.0 GiB", "queue_full 1"):
        assert said in done.output, done.output


def test_it_draws_what_has_seen_nothing():
    console = Console(width=160, record=True, file=None, quiet=True)
    reading = top.Reading(Metrics().export().decode(), at=0.0)
    with console.capture() as drawn:
        console.print(top_view(glance(top.Span(reading)), "http://a"))
    assert drawn is not None


def test_a_server_that_is_away_is_asked_again(metrics):
    readings = top.deque()
    gone = top._look(readings, "http://127.0.0.1:9/metrics", "http://a", key="")
    assert "no answer" in str(gone)
    with answering(metrics.export) as (address, _):
        for _ in range(2):
            console = Console(width=160)
            with console.capture() as drawn:
                console.print(top._look(readings, f"{address}/metrics", address, key=""))
            assert "router@3" in drawn.get()
    assert len(readings) == 2
    assert "no answer" in str(top._look(readings, f"{address}/metrics", address, key=""))
    assert not readings


def test_who_may_not_look_is_told_to_say_who_it_is():
    with (
        answering(lambda: b"", status=401) as (address, _),
        pytest.raises(SettingsError, match=r"401(?s:.*)--key-file"),
    ):
        top.read(f"{address}/metrics")


def test_another_program_is_not_taken_for_ours():
    with (
        answering(lambda: b"go_goroutines 3\n") as (address, _),
        pytest.raises(DataError, match="no page of metrics"),
    ):
        top.read(f"{address}/metrics")


@pytest.mark.parametrize("words", [["--json"], ["ftp://a", "--once"], ["127.0.0.1:8080"]])
def test_what_cannot_be_meant_is_refused(words):
    assert CliRunner().invoke(cli, ["top", *words]).exit_code == 2
