"""`xlmr rollout` as it is typed: plan, start, watch, and every way it ends."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from tests.registry.parts import gate_report, small_models
from tests.registry.rollout.parts import fair

from xlmr.cli.main import cli
from xlmr.cli.rollout_view import duration, rollout_view
from xlmr.errors import PromotionError, RegistryConflictError, SettingsError, XlmrError
from xlmr.registry.catalogue import Catalogue
from xlmr.registry.opening import open_controller
from xlmr.registry.registry import Registry
from xlmr.registry.roles import Actor
from xlmr.registry.rollout.burn import Window
from xlmr.registry.rollout.controller import Controller
from xlmr.registry.rollout.counts import SqlCounts
from xlmr.registry.rollout.evidence import Evidence, Pairs
from xlmr.registry.rollout.plan import DEFAULT_PLAN
from xlmr.registry.store import Store
from xlmr.settings import Settings

# Two stages without waiting, so that a test can walk through.
PLAN = """
objective_ms = 100
required = []
[shadow]
share = 0.0
[[steps]]
share = 0.5
minutes = 0
[[steps]]
share = 0.6
minutes = 0
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return small_models(tmp_path_factory.mktemp("models"), 3)


@pytest.fixture
def place(tmp_path: Path, models: list[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry with three versions, the first of them live; a plan; a report on the second."""
    monkeypatch.setenv("XLMR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XLMR_REGISTRY", str(tmp_path / "registry"))
    catalogue = Catalogue(str(tmp_path / "registry" / "catalogue.db"))
    registry = Registry(catalogue, Store(str(tmp_path / "registry" / "store")), Actor("ada"))
    for model in models:
        registry.push("router", model)
    registry.set_alias("router@1", "live", report=gate_report(models[0]))
    catalogue.close()
    (tmp_path / "plan.toml").write_text(PLAN)
    report = gate_report(models[1], live=models[0])
    (tmp_path / "gate.json").write_text(json.dumps(report))
    return tmp_path


def rollout(*words: object) -> Result:
    return CliRunner().invoke(cli, ["rollout", *map(str, words)])


def said(*words: object) -> str:
    done = rollout(*words)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def refused(kind: type[XlmrError], *words: object) -> str:
    done = rollout(*words)
    assert isinstance(done.exception, kind), (done.output, done.exception)
    return str(done.exception)


@contextlib.contextmanager
def opened() -> Iterator[Controller]:
    with open_controller(Settings.from_environment(registry_roles="")) as controller:
        yield controller


def count(evidence: Evidence, minutes: dict[int, Window] | None = None) -> None:
    """As a server would."""
    with opened() as controller:
        state = controller.board.state("router")
        assert state is not None
        SqlCounts(controller.board.catalogue).add(
            state.salt,
            state.epoch,
            server=f"server-{state.epoch}",
            sequence=1,
            evidence=evidence,
            minutes=minutes or {},
        )


def begin(place: Path) -> str:
    return said(
        "start", "router", 2, "--plan", place / "plan.toml", "--report", place / "gate.json"
    )


def looks(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_default_plan_is_printed() -> None:
    assert said("plan") == DEFAULT_PLAN


def test_from_the_start_to_live(place: Path) -> None:
    assert "no rollout yet" in said("status")
    assert "router: 1 → 2, 50 % (stage 1 of 2)" in begin(place)
    told = said("status", "router")
    assert "Wait: the live version has no requests to compare with." in told
    count(fair(400, 0.5))
    shown = said("status")
    assert "400" in shown
    assert "candidate" in shown
    said("promote", "router", "--reason", "it is late")
    count(fair(4000, 0.6))
    done = rollout("watch", "router", "--every", "0.1", "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    first, last = looks(done)
    assert (first["stage"], first["share"], first["look"]["outcome"]) == ("60 %", 0.6, "advance")
    assert first["counts"]["arms"]["candidate"]["de"]["units"] == 4000
    assert (last["phase"], last["share"]) == ("watching", 1.0)
    (status,) = json.loads(said("status", "--json"))
    assert (status["live"], status["rollout"]["phase"]) == ("2", "watching")
    count(Evidence(), {int(time.time() // 60): Window(1000, 900)})
    assert "burn rate" in said("status")
    done = rollout("watch", "router", "--every", "0.1", "--until", "done")
    assert done.exit_code == 3, (done.output, done.exception)
    assert "Back: 90.0 times" in done.stdout


def test_a_version_that_does_harm_ends_with_3(place: Path) -> None:
    begin(place)
    count(fair(400, 0.5, harmed=60))
    done = rollout("watch", "router", "--every", "0.1")
    assert done.exit_code == 3, (done.output, done.exception)
    assert "Back: 5xx on 60 of 400 requests of the candidate" in done.stdout
    (status,) = json.loads(said("status", "--json"))
    assert (status["live"], status["rollout"]["phase"]) == ("1", "rolled_back")
    journal = CliRunner().invoke(cli, ["registry", "journal", "router"]).stdout
    assert "rollout.abort router@2" in journal


def test_an_undecided_one_ends_with_4(place: Path) -> None:
    impatient = PLAN.replace("minutes = 0", "minutes = 0\npatience_minutes = 0")
    (place / "plan.toml").write_text(impatient)
    begin(place)
    done = rollout("watch", "router", "--every", "0.1", "--json")
    assert done.exit_code == 4, (done.output, done.exception)
    assert looks(done)[-1]["undecided"]
    assert "Undecided" in said("status")


def test_whoever_may_only_read_only_looks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(place)
    count(fair(400, 0.5, harmed=60))
    digest = hashlib.sha256(b"secret").hexdigest()
    (place / "roles.toml").write_text(f'[eve]\nroles = ["read"]\nkey = "{digest}"\n')
    monkeypatch.setenv("XLMR_REGISTRY_ROLES", str(place / "roles.toml"))
    monkeypatch.setenv("XLMR_REGISTRY_KEY", "secret")
    phases = []

    def a_server_looks(seconds: float) -> None:
        with opened() as controller:
            state = controller.board.state("router")
            assert state is not None
            phases.append(state.phase)
            controller.look("router")

    monkeypatch.setattr("xlmr.cli.rollout.time.sleep", a_server_looks)
    done = rollout("watch", "router", "--as", "eve")
    assert done.exit_code == 3, (done.output, done.exception)
    assert phases == ["running"]


def test_a_way_back_by_hand(place: Path) -> None:
    assert rollout("abort", "router").exit_code == 2  # a reason is needed
    begin(place)
    back = said("abort", "router", "--reason", "refunds are misrouted")
    assert "rolled back" in back
    assert "refunds are misrouted" in back
    refused(SettingsError, "promote", "router", "--reason", "again")


def test_what_is_refused_says_what_to_do(place: Path) -> None:
    plan = place / "plan.toml"
    assert "--report FILE" in refused(PromotionError, "start", "router", 2, "--plan", plan)
    assert "--objective-ms" in refused(SettingsError, "start", "router", 2, "--override", "test")
    refused(SettingsError, "start", "router", 2, "--plan", place / "none.toml")
    plan.write_bytes(b"\xff")
    refused(SettingsError, "start", "router", 2, "--plan", plan)
    said(
        "start", "router", 2, "--override", "no data yet", "--objective-ms", 80, "--language", "sw"
    )
    (status,) = json.loads(said("status", "--json"))
    assert status["rollout"]["salt"]
    refused(RegistryConflictError, "split", "router", "1=1", "3=1", "--override", "why not")
    assert isinstance(rollout("watch", "other").exception, XlmrError)


def test_counts_that_cannot_be_read_do_not_hide_the_rest(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(place)
    monkeypatch.setenv("XLMR_REDIS_URL", "redis://127.0.0.1:1/0")
    assert "counted in the database, and here is the redis" in said("status")
    (status,) = json.loads(said("status", "--json"))
    assert "XLMR_REDIS_URL" not in status["rollout"]["error"]
    assert status["rollout"]["phase"] == "running"
    assert "rolled back" in said("abort", "router", "--reason", "slow")


def test_several_versions_answer(place: Path) -> None:
    refused(PromotionError, "split", "router", "1=0.5", "2=0.5")
    report = ("--report", place / "gate.json")
    assert "split among 1 (0.5), 2 (0.5)" in said("split", "router", "1=0.5", "2=0.5", *report)
    assert "split among" in said("status")
    (first,) = json.loads(said("status", "--json"))
    assert first["route"]["unit"] == "caller"
    # Weights change, and nobody is dealt anew.
    again = ("split", "router", "1=0.9", "2=0.1", "--override", "less of it", "--json")
    assert json.loads(said(*again))["route"]["salt"] == first["route"]["salt"]
    assert "ensemble of 1 (1), 3 (2)" in said(
        "ensemble", "router", 1, "3=2", "--override", "an experiment"
    )
    assert "the live version answers" in said("single", "router", "--reason", "enough")
    assert "no rollout yet" in said("status")
    for words in (("1=x",), ("live=1",), ("1=1", "1=2")):
        assert rollout("split", "router", *words).exit_code == 2
    refused(SettingsError, "split", "router", "1=0")
    refused(SettingsError, "ensemble", "router", "1")


def test_the_picture_shows_evidence_against_its_thresholds(place: Path) -> None:
    begin(place)
    count(fair(400, 0.5, harmed=9))
    with opened() as controller:
        seen = controller.see("router")
    assert seen is not None
    console = Console(width=140, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(rollout_view(seen, bars=True))
    picture = captured.get()
    (line,) = [row for row in picture.splitlines() if row.startswith("5xx")]
    assert "9/400" in line
    assert "━" in line


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(5.4, "5 s"), (61.0, "1 min"), (7300.0, "121 min"), (11_000.0, "3 h 3 min")],
)
def test_times_in_words(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_an_incident_tells_how_often_the_shadow_disagrees(place: Path) -> None:
    words = ["incident", "router", "--since", "2024-03-05", "--json", "-"]
    words += ["--feedback", str(place / "feedback.db")]

    def counted() -> Any:
        return json.loads(CliRunner().invoke(cli, words).stdout)["shadow"]["stage"]

    assert counted() == []
    begin(place)
    count(Evidence(pairs={"tr": Pairs(compared=10, disagreed=4)}))
    assert counted() == [{"language": "tr", "compared": 10, "disagreed": 4}]
    said("abort", "router", "--reason", "enough")
    assert counted() == []
