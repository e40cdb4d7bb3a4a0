"""`xlmr retrain` of what is no plain classifier: labels as its recipe learns them, by feedback."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.test_loop import LIMITS, PLAN, POLICY, run, said
from tests.tiny import tiny_model

from xlmr.feedback.labels import Feedback
from xlmr.feedback.record import Record
from xlmr.feedback.store import Store

DELIVERY, REFUND = "where is my parcel", "refund the money"
# Columns of a row, and the same as text and label of an answer.
TASKS: dict[str, list[tuple[dict[str, Any], str, str]]] = {
    "multi-label": [
        ({"text": DELIVERY, "labels": ["delivery"]}, DELIVERY, '["delivery"]'),
        ({"text": REFUND, "labels": ["refund"]}, REFUND, '["refund"]'),
    ],
    "score": [
        ({"text": DELIVERY, "score": 1.0}, DELIVERY, "1"),
        ({"text": REFUND, "score": 5.0}, REFUND, "5.0"),
    ],
    "infer": [
        (
            {"premise": DELIVERY, "hypothesis": "parcel", "label": "yes"},
            *(f"{DELIVERY}\nparcel", "yes"),
        ),
        ({"premise": REFUND, "hypothesis": "parcel", "label": "no"}, f"{REFUND}\nparcel", "no"),
    ],
    "tag": [
        (
            {"tokens": DELIVERY.split(), "tags": ["O", "O", "O", "B-ITEM"]},
            *(DELIVERY, "O O O B-ITEM"),
        ),
        ({"tokens": REFUND.split(), "tags": ["O", "O", "B-ITEM"]}, REFUND, "O O B-ITEM"),
    ],
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "XLMR_CACHE_DIR": tmp_path / "cache",
        "XLMR_REGISTRY": tmp_path / "registry",
        "XLMR_FEEDBACK": tmp_path / "feedback.db",
        "XLMR_THREADS": 1,
    }.items():
        monkeypatch.setenv(name, str(value))
    return tmp_path


def numbered(columns: dict[str, Any], text: str, number: int) -> tuple[dict[str, Any], str]:
    """Another text of its own, of as many words."""
    first = next(iter(columns))
    if first == "tokens":
        words = [f"{columns['tokens'][0]}{number}", *columns["tokens"][1:]]
        return columns | {"tokens": words}, text.replace(text.split()[0], words[0], 1)
    said = f"{number} {columns[first]}"
    return columns | {first: said}, f"{number} {text}"


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_labels_from_feedback_are_learned_from(task: str, place: Path) -> None:
    rows = [numbered(*TASKS[task][n % 2][:2], n)[0] for n in range(60)]
    for name, part in (("train", rows[:12]), ("test", rows[12:])):
        lines = [json.dumps(row | {"language": "en"}) for row in part]
        (place / f"{name}.jsonl").write_text("\n".join(lines))
    (place / "recipe.toml").write_text(
        f'task = "{task}"\nencoder = "{tiny_model(place, "embed")}"\nrun.epochs = 1\n'
        f'data.train = "{place}/train.jsonl"\ndata.near_duplicates = "keep"\n'
    )
    assert run("train", place / "recipe.toml", "--out", place / "model").exit_code == 0
    said("registry", "push", "router", place / "model")
    said("registry", "alias", "router@1", "live", "--override", "the first")
    answer(place, task)
    (place / "policy.toml").write_text(POLICY)
    (place / "plan.toml").write_text(PLAN)
    told = said(
        *("retrain", "router", "--run", "--recipe", place / "recipe.toml"),
        *("--test", place / "test.jsonl", "--policy", place / "policy.toml"),
        *("--plan", place / "plan.toml", "--enough-labels", 20, *LIMITS),
    )
    assert (told["outcome"], told["labels"]) == ("shadow", {"en": 24})
    lineage = said("registry", "show", "router@2")["manifest"]["lineage"]
    assert [data["rows"] for data in lineage["data"] if data["split"] == "train"] == [12 + 24]


def answer(place: Path, task: str) -> None:
    """People say what is right of 24 answers, and of one what nobody can learn from."""
    store, now = Store(str(place / "feedback.db")), time.time() - 60.0
    asked = [(*TASKS[task][n % 2], n) for n in range(100, 124)]
    texts = [(numbered(columns, text, n)[1], label) for columns, text, label, n in asked]
    texts.append(("one\ntwo\nthree", " "))
    store.add(
        [
            Record(
                id=f"p{n}",
                at=now,
                model="router",
                version="1",
                task="classify",
                language="en",
                text=text,
            )
            for n, (text, _) in enumerate(texts)
        ]
    )
    store.add_feedback(
        [Feedback(prediction=f"p{n}", label=label) for n, (_, label) in enumerate(texts)]
    )
    store.close()
