"""`xlmr incident` as it is typed, with a registry, a store and a Prometheus."""

from __future__ import annotations

import json
import random
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.alerting import program
from tests.registry.parts import gate_report, small_models

from xlmr.cli.main import cli
from xlmr.errors import SettingsError
from xlmr.feedback.disagreements import Disagreement, add_disagreements
from xlmr.feedback.labels import Feedback
from xlmr.feedback.record import Record
from xlmr.feedback.store import Store


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Version 2 went live just now, and since then Turkish is answered worse."""
    monkeypatch.setenv("XLMR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XLMR_REGISTRY", str(tmp_path / "registry"))
    monkeypatch.setenv("XLMR_FEEDBACK", str(tmp_path / "feedback.db"))
    monkeypatch.delenv("XLMR_PROMETHEUS", raising=False)
    models = small_models(tmp_path, 2)
    for model in models:
        run("registry", "push", "router", model)
    for number, report in (
        (1, gate_report(models[0])),
        (2, gate_report(models[1], live=models[0])),
    ):
        (tmp_path / "gate.json").write_text(json.dumps(report))
        done = run(
            "registry", "alias", f"router@{number}", "live", "--report", tmp_path / "gate.json"
        )
        assert done.exit_code == 0, done.output
    store, chance, now = Store(str(tmp_path / "feedback.db")), random.Random(1), time.time()
    records = [
        Record(
            id=f"{period}-{language}-{n}",
            at=now - (3000 if period == "before" else 1000) + n,
            model="router",
            version="1" if period == "before" else "2",
            task="classify",
            language=language,
            label="refund",
            confidence=chance.uniform(0.7, 1.0) - less,
            text="kept words" if n == 0 else "",
        )
        for period, language, less in (
            *(("before", "en", 0.0), ("before", "tr", 0.0)),
            *(("now", "en", 0.0), ("now", "tr", 0.3)),
        )
        for n in range(120)
    ]
    store.add(records)
    store.add_feedback([Feedback(prediction="now-tr-0", label="other")])
    add_disagreements(
        store,
        [
            Disagreement(prediction=f"{period}-tr-{n}", version="3", label="delivery", at_us=1)
            for period in ("before", "now")
            for n in range(3)
        ],
    )
    store.close()
    (tmp_path / "since").write_text(moment(now - 1500))
    return tmp_path


def moment(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(at))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


def report(place: Path, *more: object) -> dict[str, Any]:
    done = run("incident", "router", "--since", (place / "since").read_text(), "--json", "-", *more)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


RULES = """
groups:
- name: always
  rules:
  - {alert: XlmrErrors, expr: vector(1), labels: {model: router, severity: page}}
  - {alert: XlmrErrors, expr: vector(1), labels: {model: other}}
  - {alert: XlmrMemory, expr: vector(1)}
  - {alert: DiskFull, expr: vector(1)}
  - {alert: XlmrQuiet, expr: vector(1) == 2}
"""


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    """A real one, in which alerts fire."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "rules.yml").write_text(RULES)
    config = {"global": {"evaluation_interval": "1s"}, "rule_files": [str(tmp_path / "rules.yml")]}
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    options = (f"--config.file={tmp_path}/prometheus.yml", f"--web.listen-address={address}")
    with program("prometheus", *options, "--storage.tsdb.path=data", directory=tmp_path):
        until = time.monotonic() + 60.0
        while not firing(f"http://{address}"):
            assert time.monotonic() < until
            time.sleep(0.2)
        yield f"http://{address}"


def firing(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query?query=ALERTS", timeout=5) as reply:
            return len(json.loads(reply.read())["data"]["result"]) >= 4
    except OSError:
        return False


def test_a_bad_release_is_found_and_the_way_back_works(place: Path) -> None:
    page = place / "incident.html"
    found = report(place, "--html", page)
    assert [(e["language"], e["worse"]) for e in found["languages"]] == [
        ("tr", ["confidence"]),
        ("en", []),
    ]
    assert found["versions"] == {"before": {"1": 240}, "now": {"2": 240}}
    assert [(m["previous"], m["version"]) for m in found["moves"]] == [(0, 1), (1, 2)]
    assert found["disagreeing"][0]["id"] == "now-tr-0"
    assert found["disagreeing"][0]["text"] == "kept words"
    assert found["unknown"] == ["alerts: no Prometheus is named (--prometheus, or XLMR_PROMETHEUS)"]
    assert "now-tr-0" in page.read_text("utf-8")
    assert found["shadow"]["languages"] == {"tr": 3}
    assert {(e["shadow"], e["other"]) for e in found["shadow"]["samples"]} == {("3", "delivery")}
    assert found["shadow"]["stage"] == []
    command = found["suggestion"]["command"]
    assert command.startswith("xlmr registry rollback router --to 1 --reason ")
    done = run("registry", "rollback", "router", "--to", "1", "--reason", "incident")
    assert done.exit_code == 0, done.output
    why = report(place)["suggestion"]["why"]
    assert why[0] == "version 2 was taken back already: version 1 is live now"


def test_alerts_of_the_model_and_its_servers(place: Path, prometheus: str) -> None:
    found = report(place, "--prometheus", f"{prometheus}/")
    assert found["unknown"] == []
    alerts = {alert["name"]: alert for alert in found["alerts"]}
    assert sorted(alerts) == ["XlmrErrors", "XlmrMemory"]
    assert alerts["XlmrErrors"]["labels"] == {"model": "router", "severity": "page"}
    assert abs(alerts["XlmrErrors"]["until"] - time.time()) < 120
    assert "alert XlmrErrors" in found["suggestion"]["why"]


def test_what_is_not_known_is_said(place: Path) -> None:
    since = (place / "since").read_text()
    done = run("incident", "router", "--since", since, "--prometheus", "http://127.0.0.1:1")
    assert done.exit_code == 0, done.output
    assert "not known: alerts: Prometheus does not say (URLError)" in done.output
    assert "tr: confidence 0." in done.output
    assert done.output.rstrip().splitlines()[-1].startswith("xlmr registry rollback router")
    with pytest.raises(SettingsError, match="no http URL"):
        run("incident", "router", "--since", since, "--prometheus", "file:///etc")
    with pytest.raises(SettingsError, match="ends before it begins"):
        run("incident", "router", "--since", "2024-03-05", "--until", "2024-03-04")


def test_one_version_alone(place: Path) -> None:
    found = report(place, "--version", "1")
    assert found["versions"]["now"] == {}
    assert found["suggestion"]["command"] == ""
