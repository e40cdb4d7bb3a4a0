from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.feedback.parts import record

from xlmr.cli.main import cli
from xlmr.errors import SettingsError
from xlmr.feedback.labels import Feedback
from xlmr.feedback.record import Hasher
from xlmr.feedback.store import Store

KEY = "ab" * 32


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XLMR_FEEDBACK", str(tmp_path / "feedback.db"))
    monkeypatch.setenv("XLMR_FEEDBACK_KEY", KEY)
    person = Hasher(bytes.fromhex(KEY)).person("customer-17")
    store = Store(str(tmp_path / "feedback.db"))
    store.add([record(1, text="<EMAIL> ü", subject=person), record(2, text="two"), record(3)])
    store.add_feedback([Feedback(prediction=f"p{n:06}", label="other", who="u") for n in (1, 2, 3)])
    store.close()
    return tmp_path


def run(*arguments: str, said: str | bytes = "") -> Result:
    return CliRunner().invoke(cli, ["feedback", *arguments], input=said, catch_exceptions=False)


def test_redact_shows_what_would_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Bitte rufen Sie mich an: 0171 2345678, ann@example.com\n"
    assert run("redact", said=text).output == "Bitte rufen Sie mich an: <PHONE>, <EMAIL>\n"
    told = json.loads(run("redact", "--language", "de", "--json", said=text).output)
    assert [f["kind"] for f in told["found"]] == ["PHONE", "EMAIL"]
    assert text[told["found"][0]["start"] : told["found"][0]["end"]] == "0171 2345678"
    policy = tmp_path / "policy.toml"
    policy.write_text("[redaction]\npseudonyms = true\nkinds = ['EMAIL']\n")
    with pytest.raises(SettingsError, match="XLMR_PSEUDONYM_KEY is not set"):
        run("redact", "--feedback-policy", str(policy), said=text)
    monkeypatch.setenv("XLMR_PSEUDONYM_KEY", KEY)
    hidden = run("redact", "--feedback-policy", str(policy), said=text).output
    assert "0171 2345678, <EMAIL:" in hidden
    assert run("redact", "--restore", said=hidden).output == text
    monkeypatch.setenv("XLMR_PSEUDONYM_KEY", "xyz")
    with pytest.raises(SettingsError, match="64 hexadecimal"):
        run("redact", "--restore", said=hidden)


def test_stats(place: Path) -> None:
    (row,) = json.loads(run("stats", "--json").output)["held"]
    assert (row["records"], row["texts"], row["answered"], row["corrected"]) == (3, 2, 3, 3)
    assert "router" in run("stats").output
    empty = run("stats", "--feedback", str(place / "empty.db"))
    assert empty.output == "no records yet\n"


def test_export_at_a_moment(place: Path) -> None:
    out = place / "train.jsonl"
    assert run("export", str(out)).output == f"2 labelled texts are in {out}\n"
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [(row["text"], row["label"]) for row in rows] == [
        ("<EMAIL> ü", "other"),
        ("two", "other"),
    ]
    before = run("export", str(out), "--at", "2024-03-06", "--json")  # nobody had said anything yet
    assert json.loads(before.output) == {"examples": 0}
    assert out.read_text() == ""
    with pytest.raises(SettingsError, match="no time"):
        run("export", str(out), "--at", "yesterday")
    assert sorted(p.name for p in place.iterdir() if "unfinished" in p.name) == []


def test_erase_reaches_exports(place: Path) -> None:
    records = place / "records"
    told = json.loads(run("export", str(records), "--parquet", "--json").output)
    assert told == {"records": 3, "days": {"2024-03-05": 3}}
    said = run("erase", "customer-17", "--exported", str(records))
    assert said.exit_code == 0
    assert said.output == (
        "erased 1 records and 1 pieces of feedback, and 1 records from exports; nothing is left\n"
    )
    again = json.loads(run("erase", "customer-17", "--json").output)
    assert (again["records"], again["left"]) == (0, 0)
    assert len(json.loads(run("stats", "--json").output)["erasures"]) == 2


def test_expire(place: Path) -> None:
    gone = json.loads(run("expire", "--json").output)
    assert gone == {"records": 3, "feedback": 3, "texts": 0}  # years ago


def test_without_a_store_it_says_which_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLMR_FEEDBACK", raising=False)
    with pytest.raises(SettingsError, match="--feedback PATH"):
        run("stats")
