"""A new head knows something before the first step; one that was brought along is left alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import tiny_model

from xlmr.model.bundle import open_bundle
from xlmr.training import fitted_head
from xlmr.training.data import read_examples
from xlmr.training.devices import Device
from xlmr.training.fitted_head import fit_head
from xlmr.training.loop import start
from xlmr.training.objective import Feature
from xlmr.training.objectives import schema_of
from xlmr.training.recipe import make_recipe
from xlmr.training.run import Training
from xlmr.training.rundir import open_run

PARCEL, MONEY, WORLD = "where is my parcel", "refund the money", "hello world"
ROWS: dict[str, list[dict[str, Any]]] = {
    "classify": [
        {"text": PARCEL, "label": "delivery"},
        {"text": MONEY, "label": "refund"},
        {"text": WORLD, "label": "other"},
    ],
    "multi-label": [
        {"text": PARCEL, "labels": ["delivery"]},
        {"text": f"{PARCEL} {MONEY}", "labels": ["delivery", "refund"]},
        {"text": WORLD, "labels": []},
    ],
    "score": [
        {"text": PARCEL, "score": 1},
        {"text": MONEY, "score": 5.0},
        {"text": WORLD, "score": 3},
    ],
    "answer": [
        {
            "question": "where is my parcel",
            "context": "the parcel is in paris",
            "answers": [{"text": "paris", "start": 17}],
        },
        {
            "question": "where is anna",
            "context": "anna lives in berlin with my money",
            "answers": [{"text": "berlin", "start": 14}],
        },
        {"question": "where is the refund", "context": "hello world", "answers": []},
    ],
    "tag": [
        {"tokens": ["anna", "lives", "in", "paris"], "tags": ["B-PER", "O", "O", "B-LOC"]},
        {"tokens": ["the", "parcel", "for", "anna"], "tags": ["O", "O", "O", "B-PER"]},
    ],
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices gain nothing from threads, and lose much where other work shares the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def training_of(place: Path, task: str, encoder: Path | None = None, **optimizer: Any) -> Training:
    lines = [json.dumps(row | {"language": "en"}) for row in ROWS[task] * 4]
    (place / "train.jsonl").write_text("\n".join(lines))
    recipe = make_recipe(
        {
            "task": task,
            "encoder": str(encoder or tiny_model(place, "embed")),
            "data": {"train": str(place / "train.jsonl"), "near_duplicates": "keep"},
            "run": {"epochs": 1, "batch_tokens": 32, "precision": "fp32"},
            "optimizer": optimizer,
        }
    )
    examples = read_examples(recipe.data, schema_of(recipe))
    return Training(recipe, open_bundle(Path(recipe.encoder)), examples, Device())


def mean_loss(training: Training, network: Any) -> float:
    """Of all rows, without dropout."""
    objective, features = training.objective, training.features
    with torch.no_grad():
        total = objective.loss(network.eval(), features, np.random.default_rng(0))
    return float(total) / sum(objective.weight(feature) for feature in features)


def fitted(training: Training) -> tuple[bool, Any]:
    network = start(training.objective, training.features, training.recipe, training.device).network
    arguments = (training.objective, training.features, training.recipe, training.device)
    return fit_head(network, *arguments), network


@pytest.mark.parametrize("task", sorted(ROWS.keys() - {"answer"}))
def test_a_fitted_head_knows_more_than_the_shares(
    tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tiny random encoder's vectors are so small that the weights may not be held back.
    monkeypatch.setattr(fitted_head, "_STRENGTHS", (1e-6,))
    training = training_of(tmp_path, task)
    was_fitted, network = fitted(training)
    assert was_fitted
    assert training.objective.chance is not None
    assert mean_loss(training, network) < training.objective.chance / 2


def test_answers_are_fitted_among_the_tokens_that_compete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitted_head, "_STRENGTHS", (1e-6,))
    training = training_of(tmp_path, "answer")
    untrained = training_of(tmp_path, "answer", head="random")
    assert mean_loss(training, fitted(training)[1]) < 0.2
    assert mean_loss(untrained, fitted(untrained)[1]) > 1.0


def cost(outputs_PC: Any, batch: Any) -> Any:
    """The loss of a text classifier; a feature's target is its class."""
    targets_P = torch.tensor([feature.target for feature in batch])
    return torch.nn.functional.cross_entropy(outputs_PC, targets_P, reduction="sum")


def read(vectors_PD: np.ndarray, classes_P: np.ndarray) -> fitted_head._Read:
    return fitted_head._Read(
        vectors_PD.astype(np.float32),
        [
            Feature(texts=((0, 2),), target=int(c), row=i, language="en")
            for i, c in enumerate(classes_P)
        ],
    )


def fresh_loss(apart: float, moved: float) -> float:
    """Of a head fitted to vectors so far apart by class, on others that dropout moved so far."""
    random = np.random.default_rng(0)
    middles_CD = apart * random.normal(size=(3, 64))

    def rows(count: int, moved: float) -> fitted_head._Read:
        classes = random.integers(3, size=count)
        own = middles_CD[classes] + random.normal(size=(count, 64))
        return read(own + moved * random.normal(size=(count, 64)), classes)

    known, judges = rows(160, 0.0), rows(40, 0.0)
    targets = np.array([feature.target for feature in judges.features])
    shaken = judges.vectors_PD + moved * random.normal(size=judges.vectors_PD.shape)
    weights_CD, biases_C = fitted_head._solve(known, judges, read(shaken, targets), cost, 3)
    fresh = rows(1000, moved)
    outputs = torch.from_numpy(fresh.vectors_PD @ weights_CD.T + biases_C)
    return float(cost(outputs, fresh.features)) / 1000


def test_what_rows_tell_is_learned() -> None:
    assert fresh_loss(apart=1.0, moved=0.5) < 0.05


def test_what_rows_do_not_tell_is_not_learned_by_heart() -> None:
    # 160 rows of 64 numbers are nearly told apart by weights that know nothing.
    assert fresh_loss(apart=0.0, moved=2.0) < 1.02 * np.log(3)


def test_weights_that_dropout_would_upset_are_held_harder() -> None:
    assert fresh_loss(apart=0.3, moved=3.0) < np.log(3)


def test_the_fit_is_the_same_every_time(tmp_path: Path) -> None:
    training = training_of(tmp_path, "classify")
    first, second = (fitted(training)[1].classifier.out_proj for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)


def test_as_few_tokens_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = training_of(tmp_path, "answer")
    monkeypatch.setattr(fitted_head, "_MOST_TOKENS", 1)
    assert len(fitted_head._drawn(training.features, 0)) == 1
    monkeypatch.undo()
    assert fitted_head._drawn(training.features, 0) == training.features


def test_no_more_features_are_read_than_the_fit_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = training_of(tmp_path, "classify")
    asked: list[Any] = []
    predict = training.objective.predict

    def kept(network: Any, batch: Any) -> Any:
        asked.extend(feature.row for feature in batch)
        return predict(network, batch)

    monkeypatch.setattr(training.objective, "predict", kept)
    monkeypatch.setattr(fitted_head, "_MOST_FEATURES", 2)
    assert fitted(training)[0]
    assert len(set(asked)) == 2


def test_a_recipe_may_ask_for_random_weights(tmp_path: Path) -> None:
    training = training_of(tmp_path, "classify", head="random")
    began = start(training.objective, training.features, training.recipe, training.device)
    before = began.network.classifier.out_proj.weight
    was_fitted, network = fitted(training)
    assert not was_fitted
    assert torch.equal(network.classifier.out_proj.weight, before)


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_a_head_that_the_encoder_brought_along_is_kept(tmp_path: Path, task: str) -> None:
    first = training_of(tmp_path, task)
    with open_run(tmp_path / "m", first.identity(), "", fresh=False) as directory:
        for _ in first.steps(directory):
            pass
        first.write(tmp_path / "m", force=False)
    assert not fitted(training_of(tmp_path, task, tmp_path / "m"))[0]


def test_a_head_for_other_labels_is_not_kept(tmp_path: Path) -> None:
    labels = {0: "delivery", 1: "refund", 2: "complaint"}
    encoder = tiny_model(tmp_path, "classify", id2label=labels)
    assert fitted(training_of(tmp_path, "classify", encoder))[0]
