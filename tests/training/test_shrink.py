"""A compressed model answers as before where it was promised, and says what was done to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import tiny_model, write_linear_head

from xlmr.errors import ModelError, SettingsError, TrainingError
from xlmr.model.bundle import open_bundle
from xlmr.model.predictor import Predictor, load
from xlmr.settings import Settings
from xlmr.training.costs import Cost
from xlmr.training.loop import Step
from xlmr.training.recipe import make_recipe
from xlmr.training.rundir import open_run
from xlmr.training.shrink import Fact, Plan, Trimmed, compress
from xlmr.training.texts import Texts, read_texts

TEXTS = {
    "en": ["where is my parcel", "hello world", "refund the money", "anna lives in paris"],
    "ru": ["привет мир", "где посылка", "мир где", "посылка"],
    "zh": ["你好 世界", "我 住在 北京"],
}
PAIRS = [("where is my parcel", "anna lives in paris"), ("где посылка", "привет мир")]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", threads=1)


@pytest.fixture
def texts(tmp_path: Path) -> Texts:
    folder = tmp_path / "texts"
    folder.mkdir()
    for language, said in TEXTS.items():
        rows = [{"text": text} for text in said]
        if language != "zh":
            rows += [{"question": a, "context": b} for a, b in PAIRS if a in said]
        (folder / f"{language}.train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return read_texts([folder], ["en", "ru"])


def plan(*languages: str, layers: int | None = None, **run: Any) -> Plan:
    recipe = make_recipe(
        {
            "task": "embed",
            "encoder": "",
            "data": {"train": ""},
            "run": {"epochs": 2, "batch_tokens": 20, "checkpoint_s": 0.0001} | run,
            "optimizer": {"learning_rate": 1e-3},
        }
    )
    return Plan(languages, 1, layers, None, recipe)


def shrink(
    model: Path, made: Plan, texts: Texts, out: Path, settings: Settings, **options: Any
) -> list[Fact]:
    bundle = open_bundle(model)
    return list(compress(bundle, made, texts, texts, None, out, settings=settings, **options))


def content(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.suffix != ".weights"
    }


def classified(p: Predictor) -> Any:
    return [
        [(s.label, s.score) for s in answer.labels]
        for answer in p.classify([*TEXTS["en"], *TEXTS["ru"]])
    ]


def tagged(p: Predictor) -> Any:
    return [
        [(e.label, e.start, e.end, e.text, e.score) for e in answer.entities]
        for answer in p.tag([*TEXTS["en"], *TEXTS["ru"]])
    ]


def answered(p: Predictor) -> Any:
    return [(a.text, a.start, a.score, a.no_answer_score) for a in p.answer(PAIRS)]


def ranked(p: Predictor) -> Any:
    return [(r.index, r.score) for r in p.rerank(TEXTS["en"][0], TEXTS["ru"])]


def embedded(p: Predictor) -> Any:
    return [e.vector.tolist() for e in p.embed([*TEXTS["en"], *TEXTS["ru"]])]


def chosen(p: Predictor) -> Any:
    return [
        [(s.label, s.score) for s in answer.labels]
        for answer in p.zero_shot(TEXTS["en"], ["money", "parcel"])
    ]


ASKED = {
    "classify": classified,
    "multi_label": classified,
    "regression": classified,
    "tag": tagged,
    "answer": answered,
    "rerank": ranked,
    "embed": embedded,
    "zero_shot": chosen,
}


@pytest.mark.parametrize("kind", ASKED)
def test_kept_languages_get_the_same_answers_to_the_bit(
    tmp_path: Path, texts: Texts, settings: Settings, kind: str
) -> None:
    model, out = tiny_model(tmp_path, kind), tmp_path / "out"
    facts = shrink(model, plan("en", "ru"), texts, out, settings)
    (trimmed,) = [fact for fact in facts if isinstance(fact, Trimmed)]
    with (
        load(model, runtime="native", precision="fp32", settings=settings) as before,
        load(out, runtime="native", precision="fp32", settings=settings) as after,
    ):
        assert after.bundle.config.vocabulary == trimmed.pieces < trimmed.before
        assert after.bundle.tokenizer.vocabulary_size == trimmed.pieces
        assert ASKED[kind](after) == ASKED[kind](before)


def test_a_mask_is_filled_with_the_same_pieces_in_the_same_order(
    tmp_path: Path, texts: Texts, settings: Settings
) -> None:
    model, out = tiny_model(tmp_path, "fill"), tmp_path / "out"
    shrink(model, plan("en", "ru"), texts, out, settings)
    masked = ["where is my <mask>", "где <mask>"]
    with load(model, settings=settings) as before, load(out, settings=settings) as after:
        every = [p.fill(masked, top=p.bundle.tokenizer.vocabulary_size) for p in (before, after)]
        for old, new in zip(*every, strict=True):
            kept = {s.label: s.score for s in new.masks[0]}
            shared = [s for s in old.masks[0] if s.label in kept]
            ratios = [kept[s.label] / s.score for s in shared]
            assert len(shared) >= 20
            # The same odds among themselves; the pieces that went leave them a larger share.
            np.testing.assert_allclose(ratios, ratios[0], rtol=1e-3)
            assert ratios[0] > 1.0


def test_a_head_on_frozen_vectors_comes_along(
    tmp_path: Path, texts: Texts, settings: Settings
) -> None:
    model, out = tiny_model(tmp_path, "embed"), tmp_path / "out"
    write_linear_head(model, ("refund", "delivery"))
    (model / "LICENSE").write_text("MIT")
    (model / "golden.json").write_text("{}")
    (model / "README.md").write_text("# A model of everything")
    (model / "calibration.json").write_text(json.dumps({"format": 1}))
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "cls"}))
    shrink(model, plan("en", "ru"), texts, out, settings)
    for name in ("LICENSE", "calibration.json", "1_Pooling/config.json", "xlmr_head.safetensors"):
        assert (out / name).read_bytes() == (model / name).read_bytes()
    assert not (out / "golden.json").exists()
    card = (out / "README.md").read_text()
    assert card.startswith("# A model of everything\n\n## Compressed\n")
    assert "of 216 vocabulary pieces, for en, ru" in card
    assert (model / "README.md").read_text() == "# A model of everything"
    assert not list(model.glob("*.weights"))
    with (
        load(model, runtime="native", precision="fp32", settings=settings) as before,
        load(out, runtime="native", precision="fp32", settings=settings) as after,
    ):
        assert classified(after) == classified(before)


def test_the_model_knows_what_was_done_to_it(
    tmp_path: Path, texts: Texts, settings: Settings
) -> None:
    model = tiny_model(tmp_path, "embed", num_hidden_layers=4)
    first, second = tmp_path / "first", tmp_path / "second"
    facts = shrink(model, plan("en", "ru"), texts, first, settings)
    shrink(first, plan(layers=2), texts, second, settings)
    trimmed, halved = json.loads((second / "xlmr.json").read_text())["lineage"]["compressed"]
    assert trimmed["parent"] == {"name": "embed", "digest": open_bundle(model).digest}
    assert trimmed["languages"] == ["en", "ru"]
    assert trimmed["pieces"] == [216, open_bundle(first).config.vocabulary]
    assert [entry["file"] for entry in trimmed["texts"]] == ["en.train.jsonl", "ru.train.jsonl"]
    assert halved["parent"]["digest"] == open_bundle(first).digest
    assert (halved["layers"], halved["kept_layers"]) == (2, [0, 2])
    assert str(tmp_path) not in (second / "xlmr.json").read_text()
    costs = facts[-1]
    assert isinstance(costs, list)
    assert [(c.step, c.precision) for c in costs] == [
        ("original", "fp32"),
        ("original", "int8"),
        ("trimmed", "int8"),
    ]
    assert costs[1].prepared_bytes > costs[2].prepared_bytes
    assert costs[1].stored_bytes > costs[2].stored_bytes
    assert all(isinstance(c, Cost) and c.tokens_per_second > 0 for c in costs)
    assert costs[0].agreement == pytest.approx({"en": 1.0, "ru": 1.0})
    record = json.loads((tmp_path / "first.run" / "record.json").read_text())
    assert record["costs"][2]["tokens_per_second"] == costs[2].tokens_per_second
    assert not (tmp_path / "first.run" / "work").exists()


def test_trimmed_and_halved_at_once_and_the_second_run_writes_the_same(
    tmp_path: Path, texts: Texts, settings: Settings
) -> None:
    model = tiny_model(tmp_path, "classify", num_hidden_layers=4)
    made = plan("en", "ru", layers=2)
    facts = shrink(model, made, texts, tmp_path / "a", settings)
    shrink(model, made, texts, tmp_path / "b", settings)
    steps = [fact for fact in facts if isinstance(fact, Step)]
    assert steps[-1].done == 1.0
    assert steps[-1].dev is not None
    assert steps[-1].dev.metric == "agreement"
    assert content(tmp_path / "a") == content(tmp_path / "b")
    bundle = open_bundle(tmp_path / "a")
    assert (bundle.config.layers, bundle.config.vocabulary < 216) == (2, True)
    with pytest.raises(ModelError, match="exists"):
        shrink(model, made, texts, tmp_path / "a", settings)
    shrink(model, made, texts, tmp_path / "a", settings, force=True)
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_run_left_anywhere_continues_to_the_same_bytes(
    tmp_path: Path, texts: Texts, settings: Settings, stop_after: int
) -> None:
    model = tiny_model(tmp_path, "embed", num_hidden_layers=4)
    made = plan("en", "ru", layers=2)
    shrink(model, made, texts, tmp_path / "whole", settings)
    bundle, out = open_bundle(model), tmp_path / "left"
    facts = compress(bundle, made, texts, texts, None, out, settings=settings)
    for fact in facts:
        if isinstance(fact, Step) and fact.number == stop_after:
            facts.close()
            break
    with pytest.raises(TrainingError, match="its plan is not this one's"):
        shrink(model, plan("en", "ru", layers=3), texts, out, settings)
    rest = shrink(model, made, texts, out, settings)
    numbers = [fact.number for fact in rest if isinstance(fact, Step)]
    assert numbers[0] == stop_after + 1
    assert content(out) == content(tmp_path / "whole")


def test_two_at_a_time_are_one_too_many(tmp_path: Path, texts: Texts, settings: Settings) -> None:
    model, out = tiny_model(tmp_path, "embed"), tmp_path / "out"
    with (
        open_run(out, {}, "", fresh=True),
        pytest.raises(TrainingError, match="another run is going on"),
    ):
        shrink(model, plan("en", "ru"), texts, out, settings)


def test_a_plan_that_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, texts: Texts, settings: Settings
) -> None:
    model, out = tiny_model(tmp_path, "embed"), tmp_path / "out"
    with pytest.raises(SettingsError, match="--layers 2: the model has 2"):
        shrink(model, plan(layers=2), texts, out, settings)
    with pytest.raises(SettingsError, match="nothing to do"):
        shrink(model, plan(), texts, out, settings)
    assert not list(tmp_path.glob("out*"))
