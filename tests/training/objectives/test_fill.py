"""Whole words are hidden, no text is lost, and a killed run goes on to the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tiny import tiny_model, tokenizer_json

import xlmr
from xlmr.errors import DataError
from xlmr.model.bundle import open_bundle
from xlmr.text.tokenizer import Tokenizer
from xlmr.training.checkpoint import TOKENIZER_FILES, link_files
from xlmr.training.data import read_examples
from xlmr.training.devices import Device
from xlmr.training.loop import Step
from xlmr.training.networks import padded
from xlmr.training.objectives import schema_of
from xlmr.training.objectives.fill import drawn_places, hide
from xlmr.training.packing import NO_WORD, pack
from xlmr.training.recipe import Recipe, make_recipe, set_values
from xlmr.training.run import Training
from xlmr.training.rundir import open_run

# So small a network learns nothing through dropout in so few steps.
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
TEXTS = [
    "hello world where is my parcel",
    "anna lives in paris",
    "anna lives in berlin where is the refund",
    "the money has not arrived",
] * 3


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(tokenizer_json(), encoding="utf-8")
    return Tokenizer.from_file(path, max_tokens=512)


def recipe_for(
    tmp_path: Path, *said: str, texts: Sequence[str] = TEXTS, kind: str = "embed"
) -> Recipe:
    encoder = tmp_path / kind
    lines = [json.dumps({"text": f"{text} {i}", "language": "en"}) for i, text in enumerate(texts)]
    lines += [json.dumps({"text": "привет мир где посылка", "language": "ru"})]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    values = {
        "task": "fill",
        "encoder": str(encoder if encoder.exists() else tiny_model(tmp_path, kind, **STILL)),
        "seed": 5,
        "data": {
            "train": str(tmp_path / "train.jsonl"),
            "dev": str(tmp_path / "train.jsonl"),
            "near_duplicates": "keep",
        },
        "run": {"epochs": 4, "batch_tokens": 64, "max_tokens": 24, "precision": "fp32"},
        "optimizer": {"learning_rate": 3e-3},
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


def run(recipe: Recipe, out: Path, *, stop_after: int | None = None) -> tuple[Training, list[Step]]:
    training = training_of(recipe)
    steps = []
    with open_run(out, training.identity(), recipe.to_toml(), fresh=False) as directory:
        for step in training.steps(directory):
            steps.append(step)
            if step.number == stop_after:
                return training, steps
        keep(training, out)
        directory.finish({})
    return training, steps


def content(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_the_loss_is_not_rounded_in_mixed_precision(tmp_path: Path) -> None:
    training = training_of(recipe_for(tmp_path))
    network = training.objective.network()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = training.objective.loss(network, training.features, np.random.default_rng(0))
    assert loss.dtype == torch.float32


def test_it_learns_and_is_served_as_it_was_learned(tmp_path: Path) -> None:
    training, steps = run(recipe_for(tmp_path, "run.epochs=30", "fill.masked=0.3"), tmp_path / "m")
    scores = [step.dev for step in steps if step.dev]
    assert scores[0].metric == "masked_accuracy"
    assert set(scores[0].by_language) == {"en", "ru"}
    assert np.mean([s.loss for s in steps[-9:]]) < 0.8 * np.mean([s.loss for s in steps[:9]])
    assert max(score.macro for score in scores) > scores[0].macro
    assert training.state is not None
    network, text = training.state.network.eval(), "anna <mask> in paris"
    ids = training.bundle.tokenizer.encode(text).ids
    network.lm_head._forward_pre_hooks.clear()
    with torch.no_grad():
        logits_LV = network(**padded([ids], network)).logits[0]
    best = int(logits_LV[ids.index(training.bundle.tokenizer.mask_id)].argmax())
    with xlmr.load(tmp_path / "m", precision="fp32") as predictor:
        assert predictor.tasks == {"embed", "fill"}
        [filling] = predictor.fill([text], top=1)
        assert filling.masks[0][0].label == training.bundle.tokenizer.decode([best])


@pytest.mark.parametrize("said", [(), ("optimizer.train_embeddings=all",), ("method=lora",)])
@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_run_left_anywhere_continues_to_the_same_bytes(
    tmp_path: Path, stop_after: int, said: tuple[str, ...]
) -> None:
    recipe = recipe_for(tmp_path, "run.checkpoint_s=0.0001", "run.epochs=2", *said)
    run(recipe, tmp_path / "whole")
    run(recipe, tmp_path / "left", stop_after=stop_after)
    _, rest = run(recipe, tmp_path / "left")
    assert rest[0].number <= stop_after + 1
    assert content(tmp_path / "left") == content(tmp_path / "whole")


def test_masks_differ_from_step_to_step_and_not_from_run_to_run(tmp_path: Path) -> None:
    training = training_of(recipe_for(tmp_path))
    network = training.objective.network().eval()
    with torch.no_grad():
        losses = [
            float(training.objective.loss(network, training.features, np.random.default_rng(seed)))
            for seed in (1, 1, 2)
        ]
    assert losses[0] == losses[1] != losses[2]


def test_scores_at_hidden_places_are_those_of_the_whole_network(tmp_path: Path) -> None:
    """Computing only what is asked changes nothing."""
    training = training_of(recipe_for(tmp_path, kind="fill"))
    objective, features = training.objective, training.dev_features
    network = objective.network().eval()
    with torch.no_grad():
        hits = objective.predict(network, features)
    network.lm_head._forward_pre_hooks.clear()
    with torch.no_grad():
        logits_BLV = network(**padded([f.texts[0] for f in features], network)).logits
    expected = [
        sum(int(logits_BLV[b, i].argmax()) == gold for i, gold in zip(*f.target, strict=True))
        for b, f in enumerate(features)
    ]
    assert hits == expected
    score = objective.score(training.examples.dev, features, hits)
    assert score["ru"] == expected[-1] / len(features[-1].target[0])


def test_the_loss_is_the_mean_of_a_features_hidden_pieces_times_its_tokens(
    tmp_path: Path,
) -> None:
    training = training_of(recipe_for(tmp_path))
    objective, feature = training.objective, training.features[0]
    network = objective.network().eval()
    ids_L, places = hide(
        feature.texts[0],
        feature.target,
        training.bundle.tokenizer,
        0.15,
        np.random.default_rng(7),
    )
    with torch.no_grad():
        loss = float(objective.loss(network, [feature], np.random.default_rng(7)))
        network.lm_head._forward_pre_hooks.clear()
        logits_LV = network(input_ids=torch.from_numpy(ids_L)[None]).logits[0]
    gold = torch.tensor(feature.texts[0])[torch.from_numpy(places)]
    mean = torch.nn.functional.cross_entropy(logits_LV[torch.from_numpy(places)], gold)
    assert loss == pytest.approx(float(mean) * feature.tokens, rel=1e-4)
    assert objective.weight(feature) == feature.tokens


def test_a_head_that_the_encoder_has_is_kept_and_a_new_one_starts_even(tmp_path: Path) -> None:
    own = training_of(recipe_for(tmp_path, kind="fill")).objective.network()
    stored = open_bundle(tmp_path / "fill").weights()
    np.testing.assert_array_equal(
        own.lm_head.dense.weight.detach(), stored.head("lm_head.dense.weight")
    )
    new = training_of(recipe_for(tmp_path)).objective.network()
    assert not new.lm_head.bias.any()
    assert not new.lm_head.decoder.bias.any()
    assert new.lm_head.decoder.weight is new.get_input_embeddings().weight


def test_the_sentence_files_of_the_encoder_go_along(tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path, "run.epochs=1")
    (tmp_path / "embed" / "modules.json").write_text(
        json.dumps([{"idx": 0, "name": "0", "path": "", "type": "models.Transformer"}])
    )
    (tmp_path / "embed" / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "query: "}})
    )
    run(recipe, tmp_path / "m")
    assert open_bundle(tmp_path / "m").prompts == {"query": "query: "}


def test_texts_of_unknown_characters_are_refused(tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path)
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": "ᚠᚢ ᚦᚨ", "language": "xx"}))
    with pytest.raises(DataError, match="xx: no text has a word"):
        training_of(recipe)


def test_words_share_a_fate_with_all_their_pieces(tokenizer: Tokenizer) -> None:
    [packed] = pack(tokenizer, ["xyz hello qrs world abc anna " * 8], max_tokens=512)
    ids_N = np.array(packed.ids)
    kept = replaced = masked = 0
    random = np.random.default_rng(3)
    for _ in range(60):
        hidden_L, places = hide(packed.ids, packed.words_L, tokenizer, 0.2, random)
        words = np.unique(packed.words_L[places])
        assert len(words) == round(0.2 * (packed.words_L.max() + 1))
        assert NO_WORD not in words
        untouched = np.setdiff1d(np.arange(len(ids_N)), places)
        assert (hidden_L[untouched] == ids_N[untouched]).all()
        for word in words:
            own = packed.words_L == word
            if (hidden_L[own] == tokenizer.mask_id).all():
                masked += 1
            else:
                assert not (hidden_L[own] == tokenizer.mask_id).any()
                same = (hidden_L[own] == ids_N[own]).all()
                kept, replaced = kept + same, replaced + (not same)
        assert hidden_L[places].min() > 3
    total = kept + replaced + masked
    assert masked / total == pytest.approx(0.8, abs=0.06)
    assert kept / total == pytest.approx(0.1, abs=0.05)


def test_at_least_one_word_is_drawn() -> None:
    words_L = np.array([NO_WORD, 0, 0, NO_WORD], np.int32)
    assert drawn_places(words_L, 0.01, np.random.default_rng(0)).tolist() == [1, 2]


def test_what_cannot_be_guessed_is_not_hidden(tmp_path: Path) -> None:
    training = training_of(recipe_for(tmp_path, texts=["anna <mask> ᚠᚢ paris"]))
    tokenizer, feature = training.bundle.tokenizer, training.features[0]
    for id, word in zip(feature.texts[0], feature.target.tolist(), strict=True):
        if id in (tokenizer.unk_id, tokenizer.mask_id):
            assert word == NO_WORD
