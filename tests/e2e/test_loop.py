"""From answers to the next version: selected, labelled, learned from, and in the shadow."""

from __future__ import annotations

import json
import random
import shutil
import signal
import string
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.loop.test_suspicion import drift_report
from tests.tiny import tiny_model

import xlmr.cli.retrain as retrain_verb
from xlmr.cli.main import cli
from xlmr.cli.retraining import alone
from xlmr.errors import DataError, SettingsError
from xlmr.feedback.record import Record
from xlmr.feedback.store import Store, microseconds
from xlmr.loop.retrain import Facts, Limits, NoOrder, Order, order_detail
from xlmr.registry.journal import Line
from xlmr.registry.opening import open_controller
from xlmr.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
ENGLISH = {
    "delivery": ["where", "is", "my", "parcel", "not", "arrived"],
    "refund": ["refund", "the", "money", "a", "my"],
}
RUSSIAN = {"delivery": ["где", "посылка"], "refund": ["привет", "мир"]}
POLICY = """
waive = ["calibration", "int8", "golden"]
[macro]
margin = 1.0
[language]
margin = 1.0
least_rows = 10
[latency]
p95_ms = 100000
"""
PLAN = "objective_ms = 100000\n"


def texts(words: dict[str, list[str]], count: int, seed: int) -> list[tuple[str, str]]:
    chance = random.Random(seed)
    labels = [chance.choice(sorted(words)) for _ in range(count)]
    # Words of no language beside them: no two texts are nearly the same.
    odd = ["".join(chance.choices(string.ascii_lowercase, k=30)) for _ in labels]
    return [
        (" ".join([*chance.choices(words[label], k=4), more]), label)
        for label, more in zip(labels, odd, strict=True)
    ]


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    path.write_text("\n".join(lines), encoding="utf-8")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


def said(*arguments: object) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder, rows, and a model made of them."""
    place = tmp_path_factory.mktemp("made")
    tiny_model(place, "embed")
    (place / "data").mkdir()
    for name, count, seed in (("train", 40, 1), ("dev", 12, 2), ("test", 30, 3)):
        write(place / "data" / f"en.{name}.jsonl", texts(ENGLISH, count, seed))
    write(place / "data" / "ru.test.jsonl", texts(RUSSIAN, 30, 4))
    recipe = f'task = "classify"\nmethod = "head"\nencoder = "{place}/embed"\n'
    (place / "router.toml").write_text(f'{recipe}data.train = "{place}/data"\n')
    done = run("train", place / "router.toml", "--out", place / "model")
    assert done.exit_code == 0, done.output
    return place


@pytest.fixture
def place(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry where the model is live, and a store with what it was asked in Russian."""
    for name, value in {
        "XLMR_CACHE_DIR": tmp_path / "cache",
        "XLMR_REGISTRY": tmp_path / "registry",
        "XLMR_FEEDBACK": tmp_path / "feedback.db",
        "XLMR_FEEDBACK_KEY": "ab" * 32,
        "XLMR_THREADS": 1,
    }.items():
        monkeypatch.setenv(name, str(value))
    said("registry", "push", "router", made / "model")
    said("registry", "alias", "router@1", "live", "--override", "the first")
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "plan.toml").write_text(PLAN)
    (tmp_path / "drift.json").write_text(json.dumps(drift_report(languages=[RUSSIAN_DRIFTED])))
    store = Store(str(tmp_path / "feedback.db"))
    now = time.time() - 3600.0
    store.add(
        [
            Record(
                id=f"p{n}",
                at=now + n,
                model="router",
                version="1",
                task="classify",
                language="ru",
                label="delivery",
                probabilities={"delivery": 0.6, "refund": 0.4},
                confidence=0.6,
                fingerprint=f"{n:016x}",
                text=text,
            )
            for n, (text, _) in enumerate(texts(RUSSIAN, 150, 5))
        ]
    )
    store.close()
    return tmp_path


RUSSIAN_DRIFTED = {
    "language": "ru",
    "drifted": True,
    "since": None,
    "moved": [{"signal": "unknown"}],
    "accuracy": {"lost": None},
}
LIMITS = ("--least-labels", "20", "--least-in-drifted", "10", "--days", "0")


def label(place: Path, count: int = 40) -> None:
    """Somebody labels what was selected."""
    batch = place / f"batch-{time.monotonic_ns()}.json"
    said("select", "router", batch, "--count", count, "--format", "label-studio")
    tasks = json.loads(batch.read_text("utf-8"))
    for task in tasks:
        words = task["data"]["text"].split()
        right = "delivery" if words[0] in RUSSIAN["delivery"] else "refund"
        result = {"type": "choices", "value": {"choices": [right]}}
        task["annotations"] = [{"completed_by": 1, "result": [result]}]
    batch.write_text(json.dumps(tasks))
    assert said("feedback", "import", batch)["new"] == len(tasks) > 10


def words_of(place: Path, made: Path, *more: object) -> list[str]:
    words = (
        *("router", "--run", "--recipe", made / "router.toml"),
        *("--test", made / "data", "--policy", place / "policy.toml"),
        *("--plan", place / "plan.toml", "--drift-report", place / "drift.json"),
        *(*LIMITS, "--json", *more),
    )
    return [str(word) for word in words]


def retrain(place: Path, made: Path, *more: object) -> Result:
    return run("retrain", *words_of(place, made, *more))


def journal(place: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(run("registry", "journal", "--json").output)
    return [entry for entry in entries if entry["action"].startswith("retrain")]


def test_a_turn_of_the_loop(place: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("registry", "keygen", place / "keys")
    watched = shutil.copytree(made / "model", place / "watched")
    assert run("drift", "reference", watched, "--data", made / "data").exit_code == 0
    said("registry", "push", "router", watched)
    said("registry", "alias", "router@2", "live", "--override", "watched")
    monkeypatch.setenv("XLMR_SIGN_KEY", str(place / "keys" / "sign.key"))
    decided = said("retrain", "router", "--drift-report", place / "drift.json", *LIMITS)
    assert not decided["order"]
    assert "0 labelled texts are new, 20 are asked for" in decided["why"][0]
    label(place)
    decided = said("retrain", "router", "--drift-report", place / "drift.json", *LIMITS)
    assert decided["order"]
    assert decided["why"] == ["ru drifted (unknown)"]
    assert journal(place) == []

    done = retrain(place, made)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["outcome"], told["version"], told["parent"]) == ("shadow", 3, 2)
    (status,) = json.loads(run("rollout", "status", "--json").output)
    assert (status["live"], status["rollout"]["phase"]) == ("2", "running")
    assert status["rollout"]["candidate"] == "3"
    manifest = said("registry", "show", "router@3")["manifest"]
    assert "drift-reference.json" in [file["path"] for file in manifest["files"]]
    lineage = manifest["lineage"]
    assert [(d["split"], d["file"]) for d in lineage["data"]] == [
        ("train", "train.jsonl"),
        ("dev", "dev.jsonl"),
    ]
    assert sum(d["rows"] for d in lineage["data"]) > 52
    ordered, ended = journal(place)
    assert (ordered["action"], ordered["version"]) == ("retrain", 2)
    assert ordered["reason"] == "ru drifted (unknown)"
    outcome = json.loads(ended["detail"])
    assert (outcome["order"], outcome["outcome"]) == (ordered["seq"], "shadow")
    assert outcome["data"] == next(d["sha256"] for d in lineage["data"] if d["split"] == "train")
    written = json.dumps([ordered, ended], ensure_ascii=False)
    assert not any(word in written for word in RUSSIAN["delivery"])
    run("registry", "verify")
    trusted = ("--trusted-keys", place / "keys")
    assert said("registry", "verify", "router@3", *trusted)["versions"][0]["signed_by"]
    # No text stays behind, and what was done is not done again.
    assert [p.name for p in (place / "cache" / "retrain" / "router").iterdir()] == [".lock"]
    again = json.loads(retrain(place, made).stdout)
    assert again["order"] is False
    assert "version 3 is being rolled out" in " ".join(again["why"])


def test_what_the_gate_refuses_is_not_pushed(place: Path, made: Path) -> None:
    label(place)
    (place / "policy.toml").write_text(POLICY.replace("100000", "0.000001"))
    done = retrain(place, made)
    assert done.exit_code == 3, done.output
    told = json.loads(done.stdout)
    assert told["outcome"] == "refused"
    assert told["refused"]
    assert len(json.loads(run("registry", "list", "--json").output)) == 1
    (left,) = (place / "cache" / "retrain" / "router").glob("order-*")
    assert sorted(p.name for p in left.glob("*.jsonl")) == []
    assert (left / "gate.json").exists()
    # The same labels are no reason to try again.
    assert "0 labelled texts are new" in " ".join(json.loads(retrain(place, made).stdout)["why"])


class Stopped(BaseException):
    """Nothing that follows is done."""


@pytest.mark.parametrize("at", ["joined", "trained", "gated", "started"])
def test_a_run_that_was_stopped_goes_on(
    place: Path, made: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    label(place)

    def stopped(step: str) -> None:
        if step == at:
            raise Stopped

    with monkeypatch.context() as patched:
        means = retrain_verb._means
        patched.setattr(retrain_verb, "_means", lambda *a: replace(means(*a), step=stopped))
        with pytest.raises(Stopped):
            retrain(place, made)
    goes_on(place, made)


def test_a_run_that_was_killed_goes_on(place: Path, made: Path) -> None:
    label(place)
    command = [sys.executable, "-m", "tests.e2e.dying_retrain", "pushed", *words_of(place, made)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    goes_on(place, made)


def goes_on(place: Path, made: Path) -> None:
    assert [entry["action"] for entry in journal(place)] == ["retrain"]
    done = retrain(place, made)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["why"] == [f"order {told['number']} was interrupted, and goes on"]
    assert (told["outcome"], told["version"]) == ("shadow", 2)
    assert [entry["action"] for entry in journal(place)] == ["retrain", "retrained"]
    assert len(json.loads(run("registry", "list", "--json").output)) == 2


def test_two_at_a_time_do_one(place: Path, made: Path) -> None:
    label(place)
    with alone(place / "cache" / "retrain" / "router") as only:
        assert only
        told = json.loads(retrain(place, made).stdout)
    assert told == {"order": False, "why": ["another retraining of router is going on here"]}
    assert journal(place) == []


def give_order(host: str) -> int:
    """As another machine would."""
    order = Order(1, microseconds(), {}, ("why",))
    with open_controller(Settings.from_environment()) as controller:
        line = Line(actor="b", action="retrain", name="router", version=1)
        with controller.registry.catalogue.change() as change:
            return change.note(replace(line, detail=order_detail(order, host=host))).seq


def test_an_order_of_another_machine_is_waited_for_and_then_given_up(
    place: Path, made: Path
) -> None:
    label(place)
    number = give_order("pod-1:/loop/retrain")
    told = json.loads(retrain(place, made).stdout)
    assert told["why"][0] == f"order {number}, given on pod-1:/loop/retrain, has not ended"
    told = json.loads(retrain(place, made, "--stale-hours", "0").stdout)
    assert told["outcome"] == "shadow"
    outcomes = [json.loads(e["detail"]).get("outcome") for e in journal(place)]
    assert outcomes == [None, "abandoned", None, "shadow"]


def test_two_machines_at_a_time_do_one(
    place: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label(place)
    decide = retrain_verb.decide

    def decided(facts: Facts, limits: Limits) -> Order | NoOrder:
        found = decide(facts, limits)
        give_order("pod-1:/loop/retrain")
        return found

    monkeypatch.setattr(retrain_verb, "decide", decided)
    told = json.loads(retrain(place, made).stdout)
    assert told == {"order": False, "why": ["somebody else gave an order at this moment"]}
    assert len(journal(place)) == 1


def test_an_order_is_taken_over_where_its_directory_is_shared(place: Path, made: Path) -> None:
    label(place)
    number = give_order("pod-1:/loop/retrain")
    (place / "work" / f"order-{number}").mkdir(parents=True)
    told = json.loads(retrain(place, made, "--work", place / "work").stdout)
    assert (told["number"], told["outcome"]) == (number, "shadow")


def test_a_fault_closes_the_order_and_keeps_no_text(place: Path, made: Path) -> None:
    label(place)
    bad = place / "bad.jsonl"
    bad.write_text('{"text": "where", "label": 3, "language": "en"}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl:1"):
        retrain(place, made, "--test", bad)
    ordered, ended = journal(place)
    said = json.loads(ended["detail"])
    assert (said["order"], said["outcome"]) == (ordered["seq"], "failed")
    assert said["error"] == "invalid_data"
    assert list((place / "cache" / "retrain").rglob("train.jsonl")) == []
    # What failed keeps nobody from trying again, but for the budget.
    assert json.loads(retrain(place, made, "--runs", "1").stdout)["why"] == [
        "1 trainings in 30 days; the budget is 1"
    ]
    assert json.loads(retrain(place, made).stdout)["outcome"] == "shadow"


def test_what_is_wrong_is_said_before_anything_is_done(place: Path, made: Path) -> None:
    done = run("retrain", "router", "--run")
    assert (done.exit_code, "--run needs --recipe and --test" in done.output) == (2, True)
    other = place / "other.toml"
    other.write_text('task = "answer"\nencoder = "x"\ndata.train = "y"\n')
    with pytest.raises(SettingsError, match="learns answer cannot learn from feedback"):
        retrain(place, made, "--recipe", other)
    other.write_text(f'task = "classify"\nencoder = "{place}/none"\ndata.train = "y"\n')
    with pytest.raises(DataError, match="none: not there, and"):
        retrain(place, made, "--recipe", other)
    assert journal(place) == []
