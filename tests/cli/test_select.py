"""`xlmr select` and `xlmr feedback import`, as they are typed."""

from __future__ import annotations

import csv
import json
import random
import re
import string
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.feedback.parts import MIDNIGHT, record
from tests.loop.test_suspicion import drift_report

from xlmr.cli.main import cli
from xlmr.errors import DataError, SettingsError
from xlmr.feedback.labels import Feedback
from xlmr.feedback.record import Hasher
from xlmr.feedback.selected import checked, selected_among
from xlmr.feedback.store import Store

KEY = "ab" * 32
WINDOW = ("--since", "2024-03-05", "--until", "2024-03-06")


def spoken(number: int) -> dict[str, Any]:
    share = 0.5 + (number * 7 % 50) / 100.0
    chance = random.Random(number)
    words = ["".join(chance.choices(string.ascii_lowercase, k=7)) for _ in range(4)]
    return {
        "language": ("en", "de", "tr")[number % 3],
        "text": "alpha " + " ".join(words),
        "fingerprint": f"{number:016x}",
        "probabilities": {"refund": share, "other": 1.0 - share},
        "confidence": share,
    }


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XLMR_FEEDBACK", str(tmp_path / "feedback.db"))
    monkeypatch.setenv("XLMR_FEEDBACK_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    store = Store(str(tmp_path / "feedback.db"))
    store.add([record(n, **spoken(n)) for n in range(600)])
    store.add([record(n, **spoken(n) | {"text": ""}) for n in range(600, 620)])
    store.add([record(n, **spoken(n), model="other") for n in range(620, 630)])
    store.add([record(n, **spoken(n) | {"label": ""}, task="embed") for n in range(630, 640)])
    store.close()
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


def selected(out: Path, *more: object) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    said = json.loads(run("select", "router", out, *WINDOW, "--json", *more).output)
    return said, [json.loads(line) for line in out.read_text("utf-8").splitlines()]


def test_what_was_selected_is_not_selected_again(place: Path) -> None:
    said, rows = selected(place / "one.jsonl", "--count", 60)
    assert (said["candidates"], said["asked"], said["repeated"]) == (600, 60, 0)
    assert said["random"] == sum(row["reason"] == "random" for row in rows)
    assert 4 <= said["random"] <= 24
    assert {row["inclusion"] for row in rows if row["reason"] == "random"} == {60 * 0.2 / 600}
    assert all(row["text"].startswith("alpha") and not row["label"] for row in rows)
    assert not any(row["suggested"] for row in rows)
    _, more = selected(place / "two.jsonl", "--count", 60)
    one, two = ({row["prediction"] for row in batch} for batch in (rows, more))
    assert one.isdisjoint(two)
    # The slice was asked before, and the same share asks nothing new by chance.
    assert {row["reason"] for row in more} == {"doubtful"}


def test_drift_decides_which_language(place: Path) -> None:
    (place / "drift.json").write_text(json.dumps(drift_report()))
    said, _ = selected(place / "a.jsonl", "--count", 60, "--drift-report", place / "drift.json")
    assert said["drifted"] == ["tr"]
    assert said["languages"]["tr"] > 30
    (place / "drift.json").write_text("{")
    with pytest.raises(DataError, match=r"drift\.json: no JSON"):
        run("select", "router", place / "b.jsonl", "--drift-report", place / "drift.json")


def test_labels_come_back_once_and_only_the_random_part_is_evidence(place: Path) -> None:
    _, rows = selected(place / "one.jsonl", "--count", 60)
    for row in rows[:50]:
        row |= {"label": "other", "who": "ada"}
    (place / "done.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    said = json.loads(run("feedback", "import", place / "done.jsonl", "--json").output)
    assert said == {"labels": 50, "new": 50, "empty": 10, "not_asked": 0}
    assert run("feedback", "import", place / "done.jsonl").output == (
        "0 of 50 labels are new; 10 rows have none\n"
    )
    store = Store(str(place / "feedback.db"))
    said_of = store.feedback([row["prediction"] for row in rows])
    assert {(f.source, f.who) for found in said_of.values() for f in found} == {
        ("annotator", Hasher(bytes.fromhex(KEY)).person("ada"))
    }
    found = list(checked(store, model="router", version="3"))
    labelled = sum(bool(row["label"]) and row["reason"] == "random" for row in rows)
    assert len(found) == labelled > 0
    assert {(f.predicted, f.label, f.inclusion) for f in found} == {("refund", "other", 0.02)}
    assert list(checked(store, model="router", version="4")) == []
    assert list(checked(store, model="router", since_us=(MIDNIGHT + 700) * 10**6)) == []
    store.close()


def test_what_a_user_reports_is_no_evidence(place: Path) -> None:
    _, rows = selected(place / "one.jsonl", "--count", 60)
    store = Store(str(place / "feedback.db"))
    for row in rows:
        store.add_feedback([Feedback(prediction=row["prediction"], label="other", who="u")])
    assert list(checked(store, model="router")) == []
    store.close()


def test_erased_people_leave_no_trace_among_the_selected(tmp_path: Path, place: Path) -> None:
    person = Hasher(bytes.fromhex(KEY)).person("ann")
    store = Store(str(place / "feedback.db"))
    store.add([record(0, id="hers", text="her words", subject=person, confidence=0.1)])
    selected(place / "one.jsonl", "--count", 601)
    assert selected_among(store, ["hers", "p000001"]) == {"hers", "p000001"}
    store.erase(person)
    assert selected_among(store, ["hers", "p000001"]) == {"p000001"}
    assert json.loads(run("feedback", "expire", "--json").output)["records"] == 640
    assert selected_among(store, ["p000001"]) == set()
    store.close()


def test_csv_and_label_studio(place: Path) -> None:
    run("select", "router", "a.csv", *WINDOW, "--format", "csv", "--count", 10, "--suggest")
    with (place / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert {row["suggested"] for row in rows if row["reason"] == "doubtful"} == {"refund"}
    assert {row["suggested"] for row in rows if row["reason"] == "random"} <= {""}
    run("select", "router", "a.json", *WINDOW, "--format", "label-studio", "--count", 10)
    tasks = json.loads((place / "a.json").read_text("utf-8"))
    assert len(tasks) == 10
    assert '<Choice value="refund"/>' in (place / "a.json.xml").read_text("utf-8")
    annotation = {"result": [{"type": "choices", "value": {"choices": ["refund"]}}]}
    for task in tasks:
        task["annotations"] = [annotation | {"completed_by": 3}]
    (place / "done.json").write_text(json.dumps(tasks))
    assert "10 of 10 labels are new" in run("feedback", "import", "done.json").output


def test_what_has_no_text_goes_out_only_when_asked(place: Path) -> None:
    _, rows = selected(place / "a.jsonl", "--count", 700, "--without-text")
    bare = [row for row in rows if not row["text"]]
    assert len(bare) == 20
    assert all(row["fingerprint"] for row in bare)
    store = Store(str(place / "bare.db"))
    store.add([record(1), record(2)])
    store.close()
    with pytest.raises(DataError, match="none of 2 predictions was kept with its text"):
        run("select", "router", place / "b.jsonl", *WINDOW, "--feedback", place / "bare.db")


def test_into_a_directory(place: Path) -> None:
    (place / "batches").mkdir()
    said = json.loads(run("select", "router", "batches", *WINDOW, "--json").output)
    (batch,) = (place / "batches").iterdir()
    assert said["out"] == str(batch.relative_to(place))
    assert re.fullmatch(r"router-\d{8}T\d{6}\.jsonl", batch.name)


def test_wrong_words_are_told(place: Path) -> None:
    with pytest.raises(DataError, match="nobody: no predicted labels in this window"):
        run("select", "nobody", place / "a.jsonl", *WINDOW)
    selected(place / "a.jsonl")
    with pytest.raises(SettingsError, match="somebody may be labelling it"):
        run("select", "router", place / "a.jsonl", *WINDOW)
    assert run("select", "router", place / "a.jsonl", *WINDOW, "--force").exit_code == 0
    with pytest.raises(DataError, match="No such file"):
        run("feedback", "import", place / "none.jsonl")
    (place / "latin.csv").write_bytes(b"id,label\n\xff,x\n")
    with pytest.raises(DataError, match="not UTF-8 at byte 9"):
        run("feedback", "import", place / "latin.csv")
    strange = place / "strange.jsonl"
    strange.write_text('{"id": "never", "label": "x"}')
    assert "1 are on predictions that nobody selected" in run("feedback", "import", strange).output
