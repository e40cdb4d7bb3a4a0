"""Labels, several labels, numbers and pairs: each is learned, written, and answered by `load`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import tiny_model

from xlmr.errors import DataError
from xlmr.model.bundle import open_bundle
from xlmr.model.predictor import load
from xlmr.settings import Settings
from xlmr.training.data import read_examples
from xlmr.training.devices import Device
from xlmr.training.objectives import schema_of
from xlmr.training.recipe import make_recipe
from xlmr.training.run import Training
from xlmr.training.rundir import open_run

PARCEL, MONEY = "where is my parcel", "refund the money"
ROWS: dict[str, list[dict[str, Any]]] = {
    "multi-label": [
        {"text": PARCEL, "labels": ["delivery"]},
        {"text": MONEY, "labels": ["refund"]},
        {"text": f"{PARCEL} {MONEY}", "labels": ["delivery", "refund"]},
        {"text": "hello world", "labels": []},
    ],
    "score": [
        {"text": PARCEL, "score": 1},
        {"text": MONEY, "score": 5.0},
        {"text": "hello world", "score": 3},
    ],
    "infer": [
        {"premise": PARCEL, "hypothesis": "a parcel", "label": "entailment"},
        {"premise": MONEY, "hypothesis": "a parcel", "label": "contradiction"},
        {"premise": PARCEL, "hypothesis": "a refund", "label": "contradiction"},
        {"premise": MONEY, "hypothesis": "a refund", "label": "entailment"},
    ],
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices gain nothing from threads, and lose much where other work shares the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def prepare(place: Path, task: str, rows: list[dict[str, Any]], **said: Any) -> Training:
    for split in ("train", "dev"):
        lines = [json.dumps(row | {"language": "en"}) for row in rows]
        (place / f"{split}.jsonl").write_text("\n".join(lines))
    recipe = make_recipe(
        {
            "task": task,
            "encoder": str(tiny_model(place, "embed")),
            "data": {
                "train": str(place / "train.jsonl"),
                "dev": str(place / "dev.jsonl"),
                "near_duplicates": "keep",
                **said,
            },
            "run": {"epochs": 30, "batch_tokens": 64},
            # Four pairs are too few to judge a fit by, and what is held hardest then says next to
            # nothing, from where an encoder learns no exclusive or.
            "optimizer": {"learning_rate": 5e-3, "head": "random" if task == "infer" else "fitted"},
        }
    )
    examples = read_examples(recipe.data, schema_of(recipe))
    return Training(recipe, open_bundle(Path(recipe.encoder)), examples, Device())


def learn(training: Training, out: Path) -> Path:
    with open_run(out, training.identity(), "", fresh=False) as directory:
        for _ in training.steps(directory):
            pass
        training.write(out, force=False)
    return out


def settings(place: Path) -> Settings:
    return Settings(runtime="reference", precision="fp32", cache_dir=place / "cache")


@pytest.mark.parametrize("task", list(ROWS))
def test_a_task_is_learned(tmp_path: Path, task: str) -> None:
    training = prepare(tmp_path, task, ROWS[task])
    learn(training, tmp_path / "model")
    best = training.state and training.state.best
    assert best
    assert (
        best.metric == {"multi-label": "micro_f1", "score": "spearman", "infer": "accuracy"}[task]
    )
    assert best.macro > 0.9


def test_each_label_of_a_text_is_answered_by_itself(tmp_path: Path) -> None:
    model = learn(prepare(tmp_path, "multi-label", ROWS["multi-label"]), tmp_path / "model")
    with load(model, settings=settings(tmp_path)) as predictor:
        answers = predictor.classify([row["text"] for row in ROWS["multi-label"]])
    found = [{s.label for s in answer.labels if s.score > 0.5} for answer in answers]
    assert found == [set(row["labels"]) for row in ROWS["multi-label"]]


def test_numbers_are_answered_on_the_scale_of_the_rows(tmp_path: Path) -> None:
    # Without dev rows the last epoch stands: by rank alone, the first that gets the order is best.
    model = learn(prepare(tmp_path, "score", ROWS["score"], dev=""), tmp_path / "model")
    with load(model, settings=settings(tmp_path)) as predictor:
        answers = predictor.classify([row["text"] for row in ROWS["score"]])
    parcel, money, world = (answer.score for answer in answers)
    assert parcel < world < money
    assert np.mean([parcel, money, world]) == pytest.approx(3.0, abs=1.0)


def test_the_network_written_says_what_the_network_trained_says(tmp_path: Path) -> None:
    training = prepare(tmp_path, "multi-label", ROWS["multi-label"])
    model = learn(training, tmp_path / "model")
    network = training.state.network.eval()  # type: ignore[union-attr]
    with torch.no_grad():
        outputs = training.objective.predict(network, training.dev_features)
    with load(model, settings=settings(tmp_path)) as predictor:
        answers = predictor.classify([row["text"] for row in ROWS["multi-label"]], raw_scores=True)
    for answer, output_C in zip(answers, outputs, strict=True):
        said = {score.label: score.score for score in answer.labels}
        assert [said["delivery"], said["refund"]] == pytest.approx(output_C.tolist(), abs=1e-4)


def test_a_rare_class_counts_as_much_where_asked_for(tmp_path: Path) -> None:
    rows = [{"text": f"{PARCEL} {i}", "label": "delivery"} for i in range(9)]
    rows.append({"text": MONEY, "label": "refund"})
    training = prepare(tmp_path, "classify", rows, class_weights="balanced")
    weights = [training.objective.weight(feature) for feature in training.features]
    assert sum(weights[:9]) == pytest.approx(sum(weights[9:]))
    assert training.objective.chance == pytest.approx(np.log(2.0))


def test_the_loss_is_not_rounded_in_mixed_precision(tmp_path: Path) -> None:
    training = prepare(
        tmp_path,
        "classify",
        [{"text": PARCEL, "label": "delivery"}, {"text": MONEY, "label": "refund"}],
    )
    network = training.objective.network()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = training.objective.loss(network, training.features, np.random.default_rng(0))
    assert loss.dtype == torch.float32


def test_chance_is_what_knowing_the_shares_alone_gives(tmp_path: Path) -> None:
    rows = [{"text": f"{PARCEL} {i}", "label": "delivery"} for i in range(3)]
    rows.append({"text": MONEY, "label": "refund"})
    training = prepare(tmp_path, "classify", rows)
    expected = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert training.objective.chance == pytest.approx(expected)


@pytest.mark.parametrize(
    ("task", "rows", "message"),
    [
        ("multi-label", [{"text": "a", "labels": []}], "no row has a label"),
        ("score", [{"text": "a", "score": 1}, {"text": "b", "score": 1}], "the same score"),
        ("classify", [{"text": "a", "label": "x"}, {"text": "b", "label": "x"}], "the same label"),
    ],
)
def test_rows_that_teach_nothing_are_refused(
    tmp_path: Path, task: str, rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, task, rows)


def test_a_text_longer_than_the_model_is_cut_and_counted(tmp_path: Path) -> None:
    rows = [{"text": "parcel " * 20_000, "label": "x"}, {"text": "money", "label": "y"}]
    training = prepare(tmp_path, "classify", rows)
    assert training.truncated == 1
    assert max(feature.length for feature in training.features) == 256
