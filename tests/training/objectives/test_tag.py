"""What is taught of a tag is what the serving head reads, window by window and word by word."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from tests.tiny import tiny_model

import xlmr
from xlmr.errors import DataError
from xlmr.evaluation.metrics.spans import f1_of_counts, span_counts, spans_of
from xlmr.evaluation.suites import TagRow
from xlmr.evaluation.suites.spans import tags_of_entities
from xlmr.model.bundle import open_bundle
from xlmr.training.data import read_examples
from xlmr.training.devices import Device
from xlmr.training.networks import padded
from xlmr.training.objectives import schema_of
from xlmr.training.objectives.tag import Tags
from xlmr.training.recipe import Recipe, make_recipe
from xlmr.training.run import Training
from xlmr.training.rundir import open_run

ROWS = [
    ("Anna lives in Paris .", "B-PER O O B-LOC O", "en"),
    ("hello Anna Lena", "O B-PER I-PER", "en"),
    ("in New Berlin , hello", "O B-LOC I-LOC O O", "en"),
    ("привет Анна", "O B-PER", "ru"),
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tagged(text: str, tags: str, language: str = "en") -> dict[str, Any]:
    return {"tokens": text.split(), "tags": tags.split(), "language": language}


def write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def recipe_of(
    directory: Path,
    rows: Sequence[dict[str, Any]],
    dev: Sequence[dict[str, Any]] | None = None,
    *,
    positions: int = 514,
    run: dict[str, Any] | None = None,
    **data: Any,
) -> Recipe:
    encoder = tiny_model(directory, "embed", positions=positions)
    files = {
        "train": write(directory / "train.jsonl", rows),
        "dev": write(directory / "dev.jsonl", rows if dev is None else dev),
    }
    return make_recipe(
        {
            "task": "tag",
            "encoder": str(encoder),
            "data": {**files, "near_duplicates": "keep", **data},
            "run": {"precision": "fp32", **(run or {})},
            "optimizer": {"learning_rate": 1e-2},
        }
    )


def objective_of(recipe: Recipe) -> tuple[Tags, tuple[TagRow, ...]]:
    examples = read_examples(recipe.data, schema_of(recipe))
    return Tags(open_bundle(Path(recipe.encoder)), recipe, examples), examples.train


def said(objective: Tags, row: TagRow, rows: Sequence[TagRow]) -> list[tuple[str, str]]:
    """(characters, tag) of every token that is taught something."""
    features = objective.encode(rows, learn=True)
    found = []
    encoding = objective.bundle.tokenizer.encode_whole(row.text)
    for feature in features:
        if rows[feature.row] is row:
            assert feature.texts == (encoding.ids,)
            for place, tag in zip(feature.target.places, feature.target.classes, strict=True):
                start, end = encoding.offsets[place]
                found.append((row.text[start:end], objective.labels[tag]))
    return found


def certain(objective: Tags, rows: Sequence[TagRow]) -> list[np.ndarray]:
    """Outputs for dev features that say at each token what was taught there, and else are noise."""
    taught: dict[Any, list[Any]] = {}
    for feature in objective.encode(rows, learn=True):
        taught.setdefault((feature.row, feature.texts), []).append(feature.target)
    random = np.random.default_rng(3)
    outputs = []
    for feature in objective.encode(rows, learn=False):
        logits_LC = random.normal(size=(feature.length, len(objective.labels)))
        for speakers in taught.get((feature.row, feature.texts), ()):
            logits_LC[list(speakers.places), list(speakers.classes)] = 20.0
        outputs.append(logits_LC.astype(np.float32))
    return outputs


def test_outputs_are_named_in_order(tmp_path: Path) -> None:
    objective, _ = objective_of(recipe_of(tmp_path, [tagged(*row) for row in ROWS]))
    assert objective.labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    config = objective.network().config
    assert tuple(config.id2label[i] for i in range(5)) == objective.labels
    assert config.label2id["B-PER"] == 3


def test_a_new_head_starts_from_how_often_each_tag_occurs(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, [tagged("hello Anna in Paris", "O B-PER O B-LOC")])
    objective, _ = objective_of(recipe)
    network = objective.network()
    shares_C = torch.exp(network.classifier.bias).detach().numpy()
    assert shares_C == pytest.approx([0.5, 0.25, 1e-4, 0.25, 1e-4])
    objective.save(network, tmp_path / "tagger")
    (tmp_path / "tagger" / "tokenizer.json").write_bytes(
        (tmp_path / "embed" / "tokenizer.json").read_bytes()
    )
    # A tagger that goes on learning keeps what it knows.
    weights = tmp_path / "tagger" / "model.safetensors"
    tensors = safetensors.torch.load_file(weights)
    tensors["classifier.bias"] = torch.arange(5, dtype=torch.float32)
    safetensors.torch.save_file(tensors, weights, metadata={"format": "pt"})
    continued = Tags(
        open_bundle(tmp_path / "tagger"), recipe, read_examples(recipe.data, schema_of(recipe))
    )
    assert continued.labels == objective.labels
    assert continued.network().classifier.bias.tolist() == [0, 1, 2, 3, 4]


def test_the_first_visible_token_of_a_word_learns_its_tag(tmp_path: Path) -> None:
    row = tagged("xq in Oslo", "B-PER O B-LOC")
    objective, rows = objective_of(recipe_of(tmp_path, [row]))
    # `xq` and `Oslo` are a bare ▁ and letters.
    assert said(objective, rows[0], rows) == [("x", "B-PER"), ("in", "O"), ("O", "B-LOC")]


def test_a_word_of_the_data_that_the_head_reads_as_several_is_taught_as_several(
    tmp_path: Path,
) -> None:
    row = tagged("Acme Inc. pays", "B-ORG I-ORG O")
    objective, rows = objective_of(recipe_of(tmp_path, [row]))
    shown = said(objective, rows[0], rows)
    assert shown == [("A", "B-ORG"), ("I", "I-ORG"), (".", "I-ORG"), ("p", "O")]


def test_a_span_that_ends_inside_a_word_takes_the_whole_of_it(tmp_path: Path) -> None:
    span = {"start": 9, "end": 11, "label": "LOC"}
    row = {"text": "hello in Berlins money", "spans": [span], "language": "en"}
    objective, rows = objective_of(recipe_of(tmp_path, [row]))
    assert [tag for _, tag in said(objective, rows[0], rows)] == ["O", "O", "B-LOC", "O"]
    assert objective.score(rows, objective.encode(rows, learn=False), certain(objective, rows)) == {
        "en": 1.0
    }


def test_every_character_of_an_unspaced_script_may_be_a_word(tmp_path: Path) -> None:
    row = {
        "text": "我住在北京，你好",
        "spans": [{"start": 3, "end": 5, "label": "LOC"}],
        "language": "zh",
    }
    objective, rows = objective_of(recipe_of(tmp_path, [row]))
    assert [tag for _, tag in said(objective, rows[0], rows) if tag != "O"] == ["B-LOC"]
    assert objective.score(rows, objective.encode(rows, learn=False), certain(objective, rows)) == {
        "zh": 1.0
    }


LONG = " ".join(["hello Anna Lena in", "New Berlin , where is my parcel", "xq yz Oslo"] * 6)
LONG_TAGS = " ".join(["O B-PER I-PER O", "B-LOC I-LOC O O O O O", "B-PER I-PER B-LOC"] * 6)


def test_a_long_row_teaches_every_word_once_where_it_stands_farthest_inside(
    tmp_path: Path,
) -> None:
    recipe = recipe_of(tmp_path, [tagged(LONG, LONG_TAGS)], run={"max_tokens": 24})
    objective, rows = objective_of(recipe)
    whole = objective.bundle.tokenizer.encode_whole(rows[0].text)
    features = objective.encode(rows, learn=True)
    assert len(whole.ids) > 72
    assert len(features) > 3
    starts = [0]
    for before, after in itertools.pairwise(features):
        # 24 // 8 tokens are shared; the last window may share more.
        content, begun = before.texts[0][1:-1], after.texts[0][1:-1]
        assert begun[:3] == content[-3:] or after is features[-1]
        starts.append(starts[-1] + len(content) - 3)
    starts[-1] = len(whole.ids) - len(features[-1].texts[0])
    read: dict[int, str] = {}
    for feature, start in zip(features, starts, strict=True):
        assert len(feature.texts[0]) <= 24
        assert not feature.truncated
        for place, tag in zip(feature.target.places, feature.target.classes, strict=True):
            assert feature.texts[0][place] == whole.ids[start + place]
            assert start + place not in read
            read[start + place] = objective.labels[tag]
            inside = min(place, 23 - place)
            for other in starts:
                elsewhere = start + place - other
                if 0 < elsewhere < 23:
                    assert min(elsewhere, 23 - elsewhere) <= inside
    assert [read[place] for place in sorted(read)] == LONG_TAGS.split()


def test_a_long_row_is_put_together_as_it_was_taken_apart(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, [tagged(LONG, LONG_TAGS)], positions=26)
    objective, rows = objective_of(recipe)
    features = objective.encode(rows, learn=False)
    assert len(features) > 3
    outputs = certain(objective, rows)
    assert objective.score(rows, features, outputs) == {"en": 1.0}
    outputs[1][:] = 0.0  # O everywhere: a window's words are lost, and only they
    assert 0.5 < objective.score(rows, features, outputs)["en"] < 1.0


def test_an_orphan_is_read_as_the_serving_head_reads_it(tmp_path: Path) -> None:
    objective, rows = objective_of(
        recipe_of(tmp_path, [tagged("hello Anna Lena", "O B-PER I-PER")])
    )
    features = objective.encode(rows, learn=False)
    inside = objective.labels.index("I-PER")
    outputs = certain(objective, rows)
    anna = objective.encode(rows, learn=True)[0].target.places[1]
    outputs[0][anna, inside] = 40.0
    assert objective.score(rows, features, outputs) == {"en": 1.0}


def test_the_loss_is_that_of_the_words_alone(tmp_path: Path) -> None:
    objective, rows = objective_of(recipe_of(tmp_path, [tagged(*row) for row in ROWS]))
    features = objective.encode(rows, learn=True)
    network = objective.network().eval()
    with torch.no_grad():
        loss = objective.loss(network, features, np.random.default_rng(0))
        logits = network(**padded([f.texts[0] for f in features], network)).logits
    expected = 0.0
    for i, feature in enumerate(features):
        for place, tag in zip(feature.target.places, feature.target.classes, strict=True):
            expected -= float(torch.log_softmax(logits[i, place], dim=-1)[tag])
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert sum(map(objective.weight, features)) == sum(len(row[1].split()) for row in ROWS)


def test_chance_is_the_entropy_of_the_tags(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, [tagged("hello Anna in Paris", "O B-PER O B-LOC")])
    objective, _ = objective_of(recipe)
    assert objective.chance == pytest.approx(1.5 * np.log(2))


def test_balanced_weights_make_every_tag_count_the_same(tmp_path: Path) -> None:
    rows = [tagged("hello Anna in Paris where is", "O B-PER O B-LOC O O")]
    objective, read = objective_of(recipe_of(tmp_path, rows, class_weights="balanced"))
    # Three tags occur in six words, so each has the weight of two; I-LOC and I-PER never do.
    assert objective.chance == pytest.approx(np.log(3))
    features = objective.encode(read, learn=True)
    assert objective.weight(features[0]) == pytest.approx(6.0)
    network = objective.network().eval()
    with torch.no_grad():
        loss = objective.loss(network, features, np.random.default_rng(0))
        logits_LC = network(**padded([features[0].texts[0]], network)).logits[0]
    said_L = torch.log_softmax(logits_LC, dim=-1)
    expected = 0.0
    for place, tag in zip(features[0].target.places, features[0].target.classes, strict=True):
        expected -= float(said_L[place, tag]) * (0.5 if tag == 0 else 2.0)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_rows_without_an_entity_teach_no_tagger(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, [tagged("hello world", "O O")])
    with pytest.raises(DataError, match=r"train\.jsonl: every word is tagged O"):
        objective_of(recipe)


def test_a_dev_entity_of_a_kind_that_training_never_saw_is_refused(tmp_path: Path) -> None:
    dev = [tagged("hello Anna", "O B-PER"), tagged("hello Acme", "O B-ORG")]
    recipe = recipe_of(tmp_path, [tagged("hello Anna", "O B-PER")], dev)
    with pytest.raises(
        DataError, match=r"dev\.jsonl:2: label: none of the training rows"
    ) as caught:
        objective_of(recipe)
    assert "PER" in caught.value.hint


def f1_of(path: Path, rows: Sequence[TagRow], computes: tuple[str, str]) -> dict[str, float]:
    """By language, of the answers to the rows' texts."""
    runtime, precision = computes
    with xlmr.load(path, runtime=runtime, precision=precision) as predictor:
        answers = predictor.tag([row.text for row in rows], long="window")
    assert max(answer.accounting.windows for answer in answers) > 1
    found: dict[str, list[Any]] = {}
    for row, answer in zip(rows, answers, strict=True):
        tags = tags_of_entities(row.words, answer.entities)
        found.setdefault(row.language, []).append((spans_of(row.tags), spans_of(tags)))
    return {
        language: f1_of_counts(span_counts([g for g, _ in both], [p for _, p in both]))
        for language, both in found.items()
    }


@pytest.mark.parametrize("max_tokens", [256, 16])
def test_the_written_model_scores_what_the_run_said(tmp_path: Path, max_tokens: int) -> None:
    rows = [tagged(*row) for row in ROWS] + [tagged(LONG, LONG_TAGS)]
    # Contradicted by what is learned, so that the score is neither 0 nor 1 and says something.
    dev = [*rows, tagged("Anna lives in Paris .", "B-LOC O O B-PER I-PER")]
    recipe = recipe_of(
        tmp_path, rows, dev, positions=66, run={"epochs": 8, "max_tokens": max_tokens}
    )
    examples = read_examples(recipe.data, schema_of(recipe))
    training = Training(recipe, open_bundle(Path(recipe.encoder)), examples, Device())
    with open_run(tmp_path / "m", training.identity(), recipe.to_toml(), fresh=False) as directory:
        list(training.steps(directory))
        training.write(tmp_path / "m", force=False)
    best = max(training.scores, key=lambda score: score.macro)
    assert 0.2 < best.by_language["en"] < 1.0
    for computes in (("reference", "fp32"), ("native", "fp32")):
        assert f1_of(tmp_path / "m", examples.dev, computes) == pytest.approx(best.by_language)


def test_tags_are_learned(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, [tagged(*row) for row in ROWS], run={"epochs": 30})
    examples = read_examples(recipe.data, schema_of(recipe))
    training = Training(recipe, open_bundle(Path(recipe.encoder)), examples, Device())
    with open_run(tmp_path / "m", training.identity(), "", fresh=False) as directory:
        steps = list(training.steps(directory))
    assert steps[-1].loss < steps[0].loss / 4
    assert max(score.macro for score in training.scores) == 1.0
