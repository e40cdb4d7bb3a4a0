from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.drift.parts import FIRST_HOUR, LABELS, after, hour, reference
from tests.feedback.parts import record
from tests.tiny import tiny_model, write_linear_head

from xlmr.cli.main import cli
from xlmr.drift.detectors import Budget
from xlmr.drift.keeping import DriftStore
from xlmr.drift.reference import read_reference, write_reference
from xlmr.drift.report import time_of
from xlmr.errors import DataError, SettingsError
from xlmr.feedback.store import Store

CHANGED = FIRST_HOUR + 48
ROWS = {
    "en": [("where is my parcel, it has not arrived", "delivery"), ("refund the money", "refund")],
    "ru": [("где посылка, привет мир, где мои деньги", "delivery")],
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XLMR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XLMR_THREADS", "1")
    monkeypatch.setenv("XLMR_DRIFT", str(tmp_path / "drift.db"))
    return tmp_path


@pytest.fixture
def watched(place: Path) -> Path:
    """Three days, the last of them with more spam in German."""
    store = DriftStore(str(place / "drift.db"))
    hours = [hour(n, spam=0.4 if n >= 48 else 0.2) for n in range(72)]
    store.add("one", 1, hours, now_s=after(71))
    while store.step("router", "3", reference(), now_s=after(71), budget=Budget()):
        pass
    store.close()
    return place


@pytest.fixture
def model(place: Path) -> Path:
    directory = tiny_model(place, "embed")
    write_linear_head(directory, ("delivery", "refund"))
    (place / "data").mkdir()
    for language, rows in ROWS.items():
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        (place / "data" / f"{language}.test.jsonl").write_text("\n".join(lines), "utf-8")
    return directory


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["drift", *map(str, arguments)], catch_exceptions=False)


def period(*more: object) -> tuple[object, ...]:
    return ("--since", time_of(FIRST_HOUR), "--until", time_of(FIRST_HOUR + 72), *more)


def as_json(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json", "-").output)


def test_report_tells_what_moved_and_since_when(watched: Path) -> None:
    told = as_json("report", *period())
    first, second = told["languages"]
    assert (first["language"], first["drifted"], second["drifted"]) == ("de", True, False)
    since = {time_of(CHANGED + n) for n in range(-2, 3)}
    assert first["since"] in since
    assert first["typical"][0]["bin"] == "label spam"
    assert told["alarms"]
    assert {alarm["language"] for alarm in told["alarms"]} == {"de"}
    assert first["accuracy"]["labelled"] is None
    named = as_json("report", "router@3", *period())
    assert named == told
    words = run("report", *period()).output
    assert "router@3" in words
    assert "less label ham" in words


def test_report_as_a_page_and_a_file(watched: Path) -> None:
    page, file = watched / "drift.html", watched / "drift.json"
    run("report", *period("--html", page, "--json", file))
    assert json.loads(file.read_text())["format"] == 1
    html = page.read_text("utf-8")
    for words in ("router@3: drift", "de, since", "label spam", 'class="rule"', "Alarms"):
        assert words in html
    assert not re.search(r"<script|https?://", html)
    run("report", *period("--html", page))  # a second run


def test_report_of_a_quiet_time_and_of_none(watched: Path) -> None:
    quiet = run("report", "--since", time_of(FIRST_HOUR), "--until", time_of(CHANGED))
    assert "0 alarms, 0 open, 0 tickets" in quiet.output
    assert "nothing was counted" in run("report").output
    page = watched / "none.html"
    run("report", "--html", page)
    assert "no language" in page.read_text()


def test_report_says_what_is_missing(watched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="other is not watched"):
        run("report", "other")
    with pytest.raises(SettingsError, match="ends before"):
        run("report", "--since", time_of(CHANGED), "--until", time_of(CHANGED))
    store = DriftStore(str(watched / "drift.db"))
    store.step("router", "4", reference(), now_s=after(71), budget=Budget())
    store.close()
    with pytest.raises(DataError, match=r"several.*router@3, router@4"):
        run("report", "router")
    monkeypatch.delenv("XLMR_DRIFT")
    with pytest.raises(SettingsError, match="no drift store"):
        run("report")
    with pytest.raises(DataError, match="nothing is watched"):
        run("report", "--feedback", watched / "feedback.db")


def test_status(watched: Path) -> None:
    (row,) = json.loads(run("status", "--json").output)
    assert (row["model"], row["version"], row["rows"]) == ("router", "3", 72 * 200)
    assert row["reference"] == reference().digest[:12]
    assert row["last"] == time_of(FIRST_HOUR + 71)
    assert row["hours_behind"] > 1000
    assert row["nearest"].startswith("de ")
    assert "router" in run("status").output
    assert run("status", "--drift", watched / "empty.db").output == "nothing is counted yet\n"


def test_a_reference_of_labelled_rows(model: Path, place: Path) -> None:
    said = run("reference", model, "--data", place / "data", "--runtime", "reference")
    assert "3 rows of 2 languages" in said.output
    assert "fewer than 200 rows" in said.output
    made = read_reference(model)
    assert made is not None
    assert (made.task, made.source, made.labels) == ("classify", "held-out", ("delivery", "refund"))
    assert {name: of.sketch.rows for name, of in made.languages.items()} == {"en": 2, "ru": 1}
    assert sum(made.languages["en"].judged.rows) == 2
    assert made.languages["en"].sketch.bins["confidence"] != [0] * 26
    assert made.mix == {}
    with pytest.raises(DataError, match="a reference already, of held-out rows"):
        run("reference", model, "--data", place / "data")
    again = ("--replace", "--mix", "--source", "shadow", "--runtime", "reference")
    run("reference", model, "--data", place / "data", *again)
    made = read_reference(model)
    assert made is not None
    assert (made.source, made.mix) == ("shadow", {"en": 2, "ru": 1})


def test_a_reference_of_what_a_version_was_asked(watched: Path, model: Path) -> None:
    write_reference(reference(), model)
    until = time_of(CHANGED)
    run("reference", model, "--from-records", "router@3", "--until", until, "--replace")
    made = read_reference(model)
    assert made is not None
    assert (made.source, made.labels) == ("traffic", LABELS)
    assert made.mix == {"de": 4800, "sw": 4800}
    assert made.languages["de"].judged == reference().languages["de"].judged
    with pytest.raises(DataError, match="router@9: 0 tasks"):
        run("reference", model, "--from-records", "router@9", "--replace")
    with pytest.raises(DataError, match="nothing was counted"):
        run("reference", model, "--from-records", "router@3", "--since", "2030-01-01", "--replace")


def test_a_closer_look_names_typical_predictions(watched: Path, model: Path) -> None:
    usual = [f"Wo ist mein Paket, ich warte schon {n} Tage darauf" for n in range(40)]
    rows = [json.dumps({"text": text, "label": "delivery"}) for text in usual]
    (watched / "data" / "de.test.jsonl").write_text("\n".join(rows), "utf-8")
    given = ("--data", watched / "data", "--runtime", "reference")
    run("reference", model, *given, "--vectors")
    place = watched / "feedback.db"
    store = Store(str(place))
    store.add(
        [
            record(
                n,
                at=(CHANGED + 1) * 3600.0 + n,
                version="3",
                language="de",
                text=usual[n] if n < 20 else f"北京 世界 {n} 你好 東京 我 住在",
            )
            for n in range(40)
        ]
    )
    store.close()
    look = ("--feedback", place, "--model", model, "--runtime", "reference")
    closer = as_json("report", *period(*look))["closer"]
    assert closer["why_not"] is None
    clusters = closer["languages"]["de"]["clusters"]
    assert {int(id[1:]) >= 20 for id in clusters[0]["typical"]} == {True}
    page = watched / "drift.html"
    run("report", *period(*look, "--html", page))
    assert clusters[0]["typical"][0] in page.read_text("utf-8")
    assert not re.search("Paket|北京", page.read_text("utf-8"))


def test_a_closer_look_says_what_it_lacks(watched: Path, model: Path) -> None:
    def why(*more: object) -> str:
        return str(as_json("report", *period(*more))["closer"]["why_not"])

    assert why() == "it needs the model's directory (--model)"
    place = watched / "feedback.db"
    assert why("--model", model) == "it needs the feedback store (--feedback)"
    assert "has no vectors" in why("--model", model, "--feedback", place)
    given = ("--data", watched / "data", "--runtime", "reference")
    run("reference", model, *given, "--vectors")
    said = why("--model", model, "--feedback", place, "--runtime", "reference")
    assert said == "de: 0 texts now, 0 at release"


def test_a_reference_is_of_one_thing(model: Path, place: Path) -> None:
    said = run("reference", model)
    assert said.exit_code == 2
    assert "either --data or --from-records" in said.output
    (place / "data" / "en.test.jsonl").write_text('{"text": "hello", "label": "nobody"}\n')
    with pytest.raises(DataError, match="label"):
        run("reference", model, "--data", place / "data", "--runtime", "reference")
    assert read_reference(model) is None
