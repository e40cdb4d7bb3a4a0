"""A cross-encoder learns which document answers, and is served as it was learned."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import tiny_model

import xlmr
from xlmr.errors import DataError
from xlmr.model.bundle import open_bundle
from xlmr.training.checkpoint import TOKENIZER_FILES, link_files
from xlmr.training.data import read_examples
from xlmr.training.devices import Device
from xlmr.training.loop import Step
from xlmr.training.objectives import schema_of
from xlmr.training.recipe import Recipe, make_recipe, set_values
from xlmr.training.run import Training
from xlmr.training.rundir import open_run

# So small a network learns nothing through dropout in so few steps.
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ROWS = [
    {"query": "parcel", "positive": "where is my parcel", "language": "en"},
    {"query": "refund", "positive": "a refund", "negatives": ["the money"], "language": "en"},
    {"query": "berlin", "positive": "anna lives in berlin", "language": "en"},
    {"query": "paris", "positive": "anna lives in paris", "language": "en"},
    {"query": "посылка", "positive": "где посылка", "language": "ru"},
    {"query": "мир", "positive": "привет мир", "language": "ru"},
]


@pytest.fixture(autouse=True)
def one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XLMR_CACHE_DIR", str(tmp_path / "cache"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe_for(tmp_path: Path, rows: Sequence[Mapping[str, Any]], *said: str) -> Recipe:
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    values = {
        "task": "rerank",
        "encoder": str(tiny_model(tmp_path, "embed", **STILL)),
        "seed": 5,
        "data": {
            "train": str(tmp_path / "train.jsonl"),
            "dev": str(tmp_path / "train.jsonl"),
            "near_duplicates": "keep",
        },
        "run": {"epochs": 25, "batch_tokens": 1000, "precision": "fp32"},
        "optimizer": {"learning_rate": 3e-3},
        "rerank": {"negatives": 2},
    }
    return make_recipe(set_values(values, said))


def training_of(recipe: Recipe) -> Training:
    examples = read_examples(recipe.data, schema_of(recipe))
    return Training(recipe, open_bundle(Path(recipe.encoder)), examples, Device())


def keep(training: Training, out: Path) -> None:
    """What of a model is the objective's business, and its tokenizer."""
    assert training.state is not None
    out.mkdir()
    training.objective.save(training.state.network, out)
    link_files(training.bundle.directory, out, names=TOKENIZER_FILES)


def run(recipe: Recipe, out: Path) -> tuple[Training, list[Step]]:
    training = training_of(recipe)
    with open_run(out, training.identity(), recipe.to_toml(), fresh=False) as directory:
        steps = list(training.steps(directory))
        keep(training, out)
    return training, steps


def test_it_learns_and_is_served_as_it_was_learned(tmp_path: Path) -> None:
    training, steps = run(recipe_for(tmp_path, ROWS), tmp_path / "m")
    assert steps[-1].loss < 0.5 * steps[0].loss
    scores = [step.dev for step in steps if step.dev]
    assert scores[-1].metric == "mrr"
    assert set(scores[-1].by_language) == {"en", "ru"}
    assert max(score.macro for score in scores) == 1.0 > scores[0].macro
    assert training.state is not None
    network = training.state.network.eval()
    with torch.no_grad():
        learned = training.objective.predict(network, training.dev_features)
    tokenizer = training.bundle.tokenizer
    with xlmr.load(tmp_path / "m", precision="fp32") as predictor:
        assert predictor.tasks >= {"rerank"}
        for row, feature, scores_K in zip(ROWS, training.dev_features, learned, strict=True):
            start = len(tokenizer.encode(row["query"]).ids) + 1  # <s> query </s></s> document </s>
            documents = [tokenizer.decode(ids[start:-1]) for ids in feature.texts]
            ranked = predictor.rerank(row["query"], documents, raw_scores=True)
            found = [answer.score for answer in sorted(ranked, key=lambda answer: answer.index)]
            np.testing.assert_allclose(found, scores_K, atol=1e-4)


def test_searching_negatives_says_how_far_it_is(tmp_path: Path) -> None:
    recipe, heard = recipe_for(tmp_path, ROWS), []
    examples = read_examples(recipe.data, schema_of(recipe))
    Training(
        recipe,
        open_bundle(Path(recipe.encoder)),
        examples,
        Device(),
        told=lambda *, done, tokens: heard.append((done, tokens > 0)),
    )
    assert heard[-1] == (1.0, True)


def test_the_same_recipe_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(recipe_for(tmp_path, ROWS, "run.epochs=2"), tmp_path / name)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert one == other


def test_given_negatives_come_first_and_the_rest_is_found(tmp_path: Path) -> None:
    training = training_of(recipe_for(tmp_path, ROWS))
    tokenizer = training.bundle.tokenizer
    counts = [len(feature.texts) for feature in training.features]
    # Russian has but one other document.
    assert counts == [3, 3, 3, 3, 2, 2]
    second = training.features[1].texts
    assert second[0] == tokenizer.encode("refund", "a refund").ids
    assert second[1] == tokenizer.encode("refund", "the money").ids
    for feature in training.features:
        assert len(set(feature.texts)) == len(feature.texts)
        assert feature.texts[0] == tokenizer.encode(*training.examples.train[feature.row].input).ids


def test_no_more_negatives_than_asked_for(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "negatives": ["anna", "paris", "berlin"]}]
    training = training_of(recipe_for(tmp_path, rows))
    assert [len(feature.texts) for feature in training.features] == [3]


def test_a_language_with_right_documents_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ru: no document but the right ones, at line 3") as caught:
        training_of(recipe_for(tmp_path, [ROWS[0], ROWS[2], ROWS[4]]))
    assert "give negatives" in caught.value.hint


def test_lists_of_unequal_length_lose_as_they_do_alone(tmp_path: Path) -> None:
    training = training_of(recipe_for(tmp_path, ROWS))
    network = training.objective.network().eval()
    random = np.random.default_rng(0)
    with torch.no_grad():
        together = float(training.objective.loss(network, training.features, random))
        alone = [float(training.objective.loss(network, [f], random)) for f in training.features]
        outputs = training.objective.predict(network, training.features)
    assert together == pytest.approx(sum(alone), rel=1e-4)
    by_hand = sum(np.log(np.exp(scores_K).sum()) - scores_K[0] for scores_K in outputs)
    assert together == pytest.approx(float(by_hand), rel=1e-4)


def test_a_document_that_scores_as_high_counts_as_higher(tmp_path: Path) -> None:
    training = training_of(recipe_for(tmp_path, ROWS[:4]))
    outputs = [np.array(scores) for scores in ([1.0, 1, 0], [2, 1, 0], [0, 1, 2], [1, 2, 0])]
    found = training.objective.score(training.examples.dev, training.dev_features, outputs)
    assert found == {"en": pytest.approx((1 / 2 + 1 + 1 / 3 + 1 / 2) / 4)}


def test_an_encoder_with_another_head_gets_a_new_one(tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path, ROWS, "run.epochs=1")
    other = make_recipe(
        set_values(recipe.to_json(), [f"encoder={tiny_model(tmp_path, 'multi_label')}"])
    )
    run(other, tmp_path / "m")
    opened = open_bundle(tmp_path / "m")
    assert "rerank" in opened.tasks
    assert opened.raw_config.get("problem_type") is None
