"""Benchmarks of drift on real answers, on tiny ones: what is drawn, found, named and estimated."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import drift_answers
import drift_real
import drift_traffic
import drift_truth
import numpy as np
import pytest
from drift_answers import FOREIGN, PLAIN, Answered
from drift_real import Change, partly
from drift_traffic import Pools, Source, World
from tests.tiny import tiny_model

from drift import LABELS, Traffic, texts
from xlmr import load
from xlmr.drift.reference import Reference
from xlmr.drift.seeing import sight_of
from xlmr.drift.signals import Signals

LANGUAGES = ("de", "sw", "tr")
ROWS = 300


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def made(*, sureness: float = 1.0, **touched: float) -> Answered:
    """Answers of a model that does not exist; after each Swahili one, what typos make of it."""
    rng = np.random.default_rng(0)
    parts = []
    for language in LANGUAGES:
        rows = _rows(rng, language, PLAIN, Traffic(), sureness)
        if language == "sw":
            typos = _rows(rng, language, "typos", Traffic(touched=1.0, **touched), sureness)
            rows = {n: np.stack([rows[n], typos[n]], axis=1).reshape(-1) for n in rows}
        parts.append(rows)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Answered(LABELS, columns)


def _rows(
    rng: np.random.Generator, language: str, treatment: str, traffic: Traffic, sureness: float
) -> dict[str, Any]:
    rows: dict[str, Any] = texts(rng, language, traffic, ROWS, sureness=sureness)
    others = (rows["label"] + rng.integers(1, len(LABELS), ROWS)) % len(LABELS)
    return rows | {
        "bytes_per_character": np.ones(ROWS),
        "language": np.full(ROWS, language),
        "identified": np.full(ROWS, language),
        "split": np.full(ROWS, "test"),
        "treatment": np.full(ROWS, treatment, "U8"),
        "truth": np.where(rows["right"], rows["label"], others),
    }


def test_texts_are_answered_once_and_kept_as_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = tiny_model(tmp_path), tmp_path / "data"
    data.mkdir()
    write(data / "eng_Latn.train.jsonl", [("learned from", "refund")])
    write(data / "eng_Latn.test.jsonl", [("wo ist es", "refund"), ("wo ist es", "refund")])
    write(data / "ces_Latn.train.jsonl", [("kde je můj balík", "delivery"), ("zpět", "refund")])
    orders = write(tmp_path / "orders.jsonl", [("rozsviť světlo", "light")])
    out = tmp_path / "answers.npz"
    words = ["--model", model, "--data", data, "--treat", "stripped=cs", "--out", out]
    words += ["--foreign", f"cs={orders}"]
    monkeypatch.setattr("sys.argv", ["drift_answers.py", *map(str, words)])
    drift_answers.main()
    assert "6 texts" in capsys.readouterr().out

    answered = Answered.load(out)
    columns = answered.columns
    assert columns["language"].tolist() == ["cs", "cs", "cs", "cs", "en", "cs"]
    assert columns["treatment"].tolist() == [PLAIN, "stripped", PLAIN, "stripped", PLAIN, FOREIGN]
    assert columns["truth"].tolist() == [
        answered.labels.index(one) for one in ("delivery",)
    ] * 2 + [answered.labels.index("refund")] * 3 + [-1]
    assert not columns["right"][5]
    text = drift_answers.strip_marks("kde je můj balík")
    assert text == "kde je muj balik"
    given = load(model, runtime="native", precision="int8").classify([text])[0]
    assert answered.sight(1) == sight_of(given, len(text), text)
    assert {column.dtype.kind for column in columns.values()} <= {"U", "i", "f", "b"}
    assert max(len(name) for name in [*columns["language"].tolist(), *answered.labels]) < 10


def test_what_is_drawn_counts_as_servers_count() -> None:
    answered = made()
    pools, rng = Pools(answered, "language"), np.random.default_rng(0)
    signals, asked = drift_traffic.traffic(rng, pools, World(), 3)
    assert {name: sketch.rows for name, sketch in signals.languages.items()} == asked

    one = Pools(Answered(LABELS, {n: c[:1] for n, c in answered.columns.items()}), "language")
    seen = Signals(drift_traffic.VERSION, drift_traffic.TASK, LABELS)
    for _ in range(7):
        seen.see("de", answered.sight(0))
    ((code, flat_B),) = one.draw(rng, "de", Source(), 7)
    assert code == "de"
    assert drift_traffic._sketch(flat_B, len(LABELS)) == seen.languages["de"]


def test_a_text_counts_where_it_is_identified() -> None:
    answered = made()
    answered.columns["identified"][:100] = "nl"
    pools, rng = Pools(answered, "identified"), np.random.default_rng(0)
    signals, asked = drift_traffic.traffic(rng, pools, World(), 3)
    found = {name: sketch.rows for name, sketch in signals.languages.items()}
    assert found["de"] + found["nl"] == asked["de"]
    assert found["nl"] == pytest.approx(asked["de"] / 3, rel=0.2)


def test_days_without_drift_stay_quiet() -> None:
    (row,) = drift_real.quiet(Pools(made(), "language"), range(1), days=2)
    assert row.startswith("1 | 3 | ")
    assert row.endswith("| 0.00 | 0 | 0 of 2 |")


@pytest.mark.parametrize(
    ("change", "signals"),
    [
        (Change("sw", 300, partly("typos", 0.5)), {"tokens_per_character", "tokens"}),
        (Change("de", 900, (Source(tilt=(("praise", 4.0),)),)), {"label"}),
        (Change("tr", 20_000, weight=2.0), {"language"}),
    ],
)
def test_a_change_is_found_and_named(change: Change, signals: set[str]) -> None:
    found = drift_real.find(Pools(made(fertility=1.6), "language"), change, 0, days=2)
    assert found.requests is not None
    assert found.signal in signals
    # A day of three languages is as much as a day of thirty: the mix waits for it to end.
    assert change.kind == "mix" or found.hours <= 2
    assert not {who for who in found.accused if not who.endswith(f" {change.language}")}


def test_the_store_of_servers_finds_the_same(tmp_path: Path) -> None:
    pools, change = Pools(made(fertility=1.6), "language"), Change("sw", 300, partly("typos", 0.5))
    stored: list[drift_real.Stored] = []

    def opened(reference: Reference) -> drift_real.Stored:
        stored.append(drift_real.Stored(str(tmp_path / "drift.db"), reference))
        return stored[0]

    found = drift_real.find(pools, change, 0, days=0, watched=opened)
    stored[0].close()
    assert found.requests is not None
    assert found == drift_real.find(pools, change, 0, days=0)


def test_the_table_says_who_else_was_accused(monkeypatch: pytest.MonkeyPatch) -> None:
    change = Change("sw", 300, partly("typos", 0.5))
    monkeypatch.setattr(drift_real, "CHANGES", {"typos": change})
    monkeypatch.setattr(drift_real, "find", lambda *_: drift_real.Found(accused={"within de"}))
    (row,) = drift_real.changes(Pools(made(), "language"), range(2))
    assert row == "| typos | 0 of 2 | nobody | 300 | – | – | – | nobody | within de |"


def test_estimates_are_held_against_the_truth() -> None:
    found = list(drift_truth.table({"m": made(), "sure": made(sureness=3.0)}, range(3)))
    cells = {tuple(row.split(" | ")[:2]): row.split(" | ")[2:] for row in found}
    assert not {shift for _, shift in cells} & {"stripped", "transliterated"}
    honest, sure = cells["| m", "as at release"], cells["| sure", "as at release"]
    assert int(honest[0]) > 0
    assert float(honest[1]) < 6.0
    assert (sure[0], sure[7], sure[11]) == ("0", "0", "9")
    trials = list(drift_truth.trials(made(clarity=0.5), drift_truth.SHIFTS["typos"], range(3)))
    assert len(trials) == 3
    assert np.mean([trial.moved for trial in trials]) < -5.0
    assert np.mean([trial.error for trial in trials]) < np.mean([-trial.moved for trial in trials])


def test_a_half_never_holds_what_was_made_of_the_other() -> None:
    answered = made()
    seen: list[np.ndarray] = []

    def shift(half: drift_truth.Half, _: np.random.Generator) -> np.ndarray:
        if half.language == "sw":
            seen.append(half.treated("typos") - 1)
            assert np.array_equal(seen[-1], half.plain)
        return half.plain

    list(drift_truth.trials(answered, shift, range(1)))
    assert len(seen) == 1


def test_stripping_leaves_no_marks() -> None:
    assert not [
        c for c in drift_answers.strip_marks("Tiếng Việt, čeština") if unicodedata.combining(c)
    ]
