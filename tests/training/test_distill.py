"""A student starts from its teacher's layers and comes to say what its teacher says."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import KINDS, tiny_model

from xlmr.errors import DataError, SettingsError
from xlmr.model.bundle import open_bundle
from xlmr.training.distill import Distillation, blocks, make_examples
from xlmr.training.recipe import Recipe, make_recipe
from xlmr.training.texts import Item, Texts

TEXTS = [
    Item((text,), "en" if text.isascii() else "ru", i)
    for i, text in enumerate(
        [
            "where is my parcel",
            "hello world",
            "a refund",
            "anna lives in paris",
            "где посылка",
            "мир",
        ]
    )
]
PAIRS = [Item((a.texts[0], b.texts[0]), a.language, a.line) for a, b in itertools.pairwise(TEXTS)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe(**run: Any) -> Recipe:
    return make_recipe({"task": "embed", "encoder": "", "data": {"train": ""}, "run": run})


def distillation(path: Path, kind: str, *, layers: int = 2, **config: Any) -> Distillation:
    model = tiny_model(path, kind, num_hidden_layers=4, **config)
    return Distillation(open_bundle(model), recipe(), layers=layers)


def test_each_layer_stands_for_a_block_of_the_teachers() -> None:
    assert blocks(12, 6) == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (10, 12)]
    assert blocks(12, 5) == [(0, 2), (2, 4), (4, 7), (7, 9), (9, 12)]
    assert blocks(3, 1) == [(0, 3)]
    for layers in (12, 13):
        with pytest.raises(SettingsError, match="the model has 12"):
            blocks(12, layers)


def test_the_student_starts_as_the_first_layer_of_each_block(tmp_path: Path) -> None:
    objective = distillation(tmp_path, "embed")
    student = objective.network()
    teacher = objective._teacher.encoder.layer
    assert student.config.num_hidden_layers == len(student.encoder.layer) == 2
    for mine, theirs in zip(student.encoder.layer, (teacher[0], teacher[2]), strict=True):
        for (name, a), b in zip(mine.named_parameters(), theirs.parameters(), strict=True):
            assert torch.equal(a, b), name
            assert a.data_ptr() != b.data_ptr()
            assert a.requires_grad
            assert not b.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_learns_whatever_its_teacher_does(tmp_path: Path, kind: str) -> None:
    objective = distillation(tmp_path, kind)
    rows = PAIRS if kind == "answer" else TEXTS
    features = objective.encode(rows, learn=True)
    torch.manual_seed(0)
    student = objective.network().train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    losses, generator = [], np.random.default_rng(0)
    before = objective.predict(student.eval(), features)
    for _ in range(30):
        loss = objective.loss(student.train(), features, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    after = objective.predict(student.eval(), features)
    assert np.mean(after) >= np.mean(before)
    assert max(after) <= 1.0 + 1e-6
    by_language = objective.score(rows, features, after)
    assert set(by_language) == {"en", "ru"}
    assert by_language["ru"] == pytest.approx(
        np.mean([a for a, row in zip(after, rows, strict=True) if row.language == "ru"])
    )
    objective.save(student, tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert saved["num_hidden_layers"] == 2
    assert saved["hidden_dropout_prob"] == 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_costs_what_its_texts_cost_alone_but_for_their_spread(
    tmp_path: Path, kind: str
) -> None:
    """Padding must not count: a short text beside a long one is answered as it is alone."""
    objective = distillation(tmp_path, kind)
    rows = PAIRS if kind == "answer" else TEXTS
    features = objective.encode(rows, learn=False)
    student = objective.network().eval()
    with torch.no_grad():
        together = objective.predict(student, features)
        alone = [objective.predict(student, [feature])[0] for feature in features]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_prompts_take_turns_and_a_long_text_is_cut(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, "embed", num_hidden_layers=4)
    (model / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "query: ", "passage": "passage: "}})
    )
    bundle = open_bundle(model)
    objective = Distillation(bundle, recipe(max_tokens=8), layers=2)
    first, second, long = objective.encode(
        [TEXTS[0], TEXTS[1], Item(("parcel " * 50,), "en", 9)], learn=True
    )
    assert first.texts[0] == bundle.tokenizer.encode("passage: where is my parcel").ids
    assert second.texts[0] == bundle.tokenizer.encode("query: hello world").ids
    assert (len(long.texts[0]), long.truncated, second.truncated) == (8, True, False)


def test_masks_are_the_same_every_time_and_never_on_the_bounds(tmp_path: Path) -> None:
    objective = distillation(tmp_path, "fill")
    rows = [*TEXTS, Item(("a",), "en", 9)]
    features = objective.encode(rows, learn=True)
    assert features == objective.encode(rows, learn=True)
    for feature in features:
        ids, places = feature.texts[0], feature.target
        assert len(places) >= 1
        assert {ids[place] for place in places} == {215}
        assert (ids[0], ids[-1]) == (0, 2)


def texts(items: list[Item]) -> Texts:
    return Texts(tuple(items), ())


def test_what_is_learned_from_and_what_is_looked_at_are_not_the_same(tmp_path: Path) -> None:
    bundle = open_bundle(tiny_model(tmp_path, "embed"))
    many = [Item((f"text {i}",), "en", i) for i in range(300)]
    examples = make_examples(bundle, texts(many), most=20, seed=1)
    assert len(examples.train) == 20
    assert len(examples.dev) == 6
    assert not set(examples.train) & set(examples.dev)
    assert make_examples(bundle, texts(many), most=None, seed=1).dev == examples.dev


def test_pairs_are_read_together_by_those_who_can(tmp_path: Path) -> None:
    reads = open_bundle(tiny_model(tmp_path, "rerank"))
    one_by_one = open_bundle(tiny_model(tmp_path, "tag"))
    found = make_examples(reads, texts(PAIRS), most=None, seed=0)
    assert {len(item.texts) for item in (*found.train, *found.dev)} == {2}
    found = make_examples(one_by_one, texts(PAIRS), most=None, seed=0)
    assert {len(item.texts) for item in (*found.train, *found.dev)} == {1}


def test_questions_need_contexts(tmp_path: Path) -> None:
    bundle = open_bundle(tiny_model(tmp_path, "answer"))
    with pytest.raises(DataError, match="0 questions with contexts"):
        make_examples(bundle, texts(TEXTS), most=None, seed=0)
