"""Sentence vectors learn from every kind of rows, and are served as they were learned."""

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
from xlmr.errors import DataError, SettingsError
from xlmr.evaluation.suites import RankRow
from xlmr.model.bundle import open_bundle
from xlmr.training.checkpoint import TOKENIZER_FILES, link_files
from xlmr.training.data import read_examples
from xlmr.training.devices import Device
from xlmr.training.loop import Step
from xlmr.training.objectives import schema_of
from xlmr.training.objectives.contrast import Contrast
from xlmr.training.recipe import Recipe, make_recipe, set_values
from xlmr.training.run import Training
from xlmr.training.rundir import open_run

# So small a network learns nothing through dropout in so few steps.
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BITEXT = [
    ("hello world", "привет мир", "ru"),
    ("where is my parcel", "где посылка", "ru"),
    ("a world", "мир", "ru"),
    ("hello hello", "привет", "ru"),
    ("hello world", "你好 世界", "zh"),
    ("i live in beijing", "我 住在 北京", "zh"),
    ("a world", "世界", "zh"),
    ("hello hello", "你好", "zh"),
]
RANK = [
    ("where is my parcel", "the parcel has not arrived", "en"),
    ("refund", "the money a refund", "en"),
    ("anna lives", "anna lives in berlin", "en"),
    ("paris", "paris is a world", "en"),
    ("где посылка", "посылка где", "ru"),
    ("привет", "мир привет", "ru"),
]
SIMILARITY = [
    ("hello world", "hello world", 5.0),
    ("my parcel", "where is my parcel", 4.0),
    ("anna lives in paris", "anna lives in berlin", 3.0),
    ("refund", "paris", 1.0),
    ("the money", "anna", 0.0),
]


@pytest.fixture(autouse=True)
def one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XLMR_CACHE_DIR", str(tmp_path / "cache"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe_for(
    tmp_path: Path,
    rows: Sequence[Mapping[str, Any]],
    kind: str,
    *said: str,
    dev: Sequence[Mapping[str, Any]] | None = None,
) -> Recipe:
    for name, some in (("train", rows), ("dev", rows if dev is None else dev)):
        lines = [json.dumps(row) for row in some]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    encoder = tmp_path / "embed"
    values = {
        "task": "embed",
        "encoder": str(encoder if encoder.exists() else tiny_model(tmp_path, "embed", **STILL)),
        "seed": 5,
        "data": {
            "train": str(tmp_path / "train.jsonl"),
            "dev": str(tmp_path / "dev.jsonl") if dev != [] else "",
            "near_duplicates": "keep",
            "rows": kind,
        },
        "run": {"epochs": 6, "batch_tokens": 1000, "precision": "fp32"},
        "optimizer": {"learning_rate": 3e-3},
    }
    return make_recipe(set_values(values, said))


def bitext(tmp_path: Path, *said: str) -> Recipe:
    rows = [{"en": en, "text": text, "language": code} for en, text, code in BITEXT]
    return recipe_for(tmp_path, rows, "bitext", *said)


def ranked(tmp_path: Path, *said: str) -> Recipe:
    rows = [{"query": q, "positive": p, "language": code} for q, p, code in RANK]
    return recipe_for(tmp_path, rows, "rank", *said)


def similar(tmp_path: Path, *said: str) -> Recipe:
    rows = [{"a": a, "b": b, "score": score, "language": "en"} for a, b, score in SIMILARITY]
    return recipe_for(tmp_path, rows, "similarity", *said)


def training_of(recipe: Recipe) -> Training:
    examples = read_examples(recipe.data, schema_of(recipe))
    return Training(recipe, open_bundle(Path(recipe.encoder)), examples, Device())


def keep(training: Training, out: Path) -> None:
    """What of a model is the objective's business, and its tokenizer."""
    assert training.state is not None
    out.mkdir()
    training.objective.save(training.state.network, out)
    link_files(training.bundle.directory, out, names=TOKENIZER_FILES)


def run(recipe: Recipe, out: Path) -> list[Step]:
    training = training_of(recipe)
    with open_run(out, training.identity(), recipe.to_toml(), fresh=False) as directory:
        steps = list(training.steps(directory))
        keep(training, out)
    return steps


def give_sentence_files(directory: Path, *, pooling: str = "mean") -> None:
    """Files as an older sentence-transformers writes them, with prompts."""
    module = "sentence_transformers.models."
    (directory / "pool").mkdir()
    (directory / "modules.json").write_text(
        json.dumps(
            [
                {"idx": 0, "name": "0", "path": "", "type": f"{module}Transformer"},
                {"idx": 1, "name": "1", "path": "pool", "type": f"{module}Pooling"},
                {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{module}Normalize"},
            ]
        )
    )
    flag = "mean_tokens" if pooling == "mean" else "cls_token"
    (directory / "pool" / "config.json").write_text(json.dumps({f"pooling_mode_{flag}": True}))
    (directory / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "query: ", "passage": "passage: "}})
    )


KINDS = {"bitext": bitext, "rank": ranked, "similarity": similar}


@pytest.mark.parametrize(
    ("kind", "said", "metric"),
    [
        ("bitext", (), "bitext_accuracy"),
        ("bitext", ("embed.hard_negatives=2",), "bitext_accuracy"),
        ("bitext", ("embed.loss=imitate",), "bitext_accuracy"),
        ("rank", (), "mrr"),
        ("rank", ("embed.hard_negatives=1",), "mrr"),
        ("rank", ("method=lora", "lora.rank=4"), "mrr"),
        ("similarity", (), "spearman"),
    ],
)
def test_every_kind_of_rows_is_learned(
    tmp_path: Path, kind: str, said: tuple[str, ...], metric: str
) -> None:
    steps = run(KINDS[kind](tmp_path, "run.epochs=12", *said), tmp_path / "model")
    scores = [step.dev for step in steps if step.dev]
    assert {score.metric for score in scores} == {metric}
    assert steps[-1].loss < 0.8 * steps[0].loss
    assert set(scores[0].by_language) == set(
        {"bitext": ("ru", "zh"), "rank": ("en", "ru"), "similarity": ("en",)}[kind]
    )


def test_contrast_brings_translations_together(tmp_path: Path) -> None:
    steps = run(bitext(tmp_path, "run.epochs=20"), tmp_path / "model")
    scores = [step.dev.macro for step in steps if step.dev]
    assert scores[-1] == 1.0 > scores[0]


def test_the_same_recipe_writes_the_same_bytes(tmp_path: Path) -> None:
    recipe = ranked(tmp_path, "embed.hard_negatives=2")
    for name in ("a", "b"):
        run(recipe, tmp_path / name)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert one == other


def hears(recipe: Recipe) -> list[float]:
    """What is heard while a run is prepared."""
    heard: list[float] = []

    def told(*, done: float, tokens: int) -> None:
        assert tokens > 0
        heard.append(done)

    examples = read_examples(recipe.data, schema_of(recipe))
    Training(recipe, open_bundle(Path(recipe.encoder)), examples, Device(), told=told)
    return heard


def test_searching_negatives_and_asking_a_teacher_say_how_far_they_are(tmp_path: Path) -> None:
    for name in ("mined", "taught", "neither"):
        (tmp_path / name).mkdir()
    assert hears(ranked(tmp_path / "mined", "embed.hard_negatives=1"))[-1] == 1.0
    assert hears(bitext(tmp_path / "taught", "embed.loss=imitate"))[-1] == 1.0
    assert hears(ranked(tmp_path / "neither")) == []


@pytest.mark.parametrize("pooling", ["mean", "cls", None])
def test_what_is_served_is_what_was_learned(tmp_path: Path, pooling: str | None) -> None:
    recipe = ranked(tmp_path)
    if pooling:
        give_sentence_files(Path(recipe.encoder), pooling=pooling)
    training = training_of(recipe)
    with open_run(tmp_path / "m", training.identity(), "", fresh=False) as directory:
        list(training.steps(directory))
        assert training.state is not None
        network = training.state.network.eval()
        with torch.no_grad():
            learned = training.objective.predict(network, training.dev_features)
        keep(training, tmp_path / "m")
    names = ("query", "passage") if pooling else ("", "")
    with xlmr.load(tmp_path / "m", precision="fp32") as predictor:
        for (query, positive, _), vectors_2D in zip(RANK, learned, strict=True):
            for text, name, vector_D in zip((query, positive), names, vectors_2D, strict=True):
                [served] = predictor.embed([text], prompt=name)
                np.testing.assert_allclose(served.vector, vector_D, atol=1e-4)


def test_the_sentence_files_of_the_encoder_go_along(tmp_path: Path) -> None:
    recipe = bitext(tmp_path, "run.epochs=1")
    give_sentence_files(Path(recipe.encoder), pooling="cls")
    run(recipe, tmp_path / "m")
    before, after = open_bundle(Path(recipe.encoder)), open_bundle(tmp_path / "m")
    assert (after.pooling, after.prompts) == (before.pooling, before.prompts)
    assert (tmp_path / "m" / "2_Normalize").is_dir()
    assert after.digest != before.digest


def test_sentence_files_are_written_where_the_encoder_has_none(tmp_path: Path) -> None:
    run(bitext(tmp_path, "run.epochs=1"), tmp_path / "m")
    modules = json.loads((tmp_path / "m" / "modules.json").read_text())
    assert [module["type"].rpartition(".")[2] for module in modules] == [
        "Transformer",
        "Pooling",
        "Normalize",
    ]
    opened = open_bundle(tmp_path / "m")
    assert opened.pooling == open_bundle(tmp_path / "embed").pooling
    assert opened.tasks == {"embed"}
    pooling = json.loads((tmp_path / "m" / "1_Pooling" / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == 32


def objective_of(tmp_path: Path, rows: Sequence[RankRow], *said: str) -> Contrast:
    plain = [{"query": r.query, "positive": r.positive, "language": r.language} for r in rows]
    recipe = recipe_for(tmp_path, plain, "rank", *said)
    return Contrast(open_bundle(Path(recipe.encoder)), recipe, bitext=False)


def test_other_right_answers_are_no_negatives(tmp_path: Path) -> None:
    """Two rows ask the same, and one asks what another answers: neither is held against it."""
    rows = [
        RankRow("where is my parcel", "berlin", (), "en", 1),
        RankRow("where is my parcel", "paris", (), "en", 2),
        RankRow("Berlin!", "the world", (), "en", 3),
        RankRow("anna", "a refund", (), "en", 4),
    ]
    objective = objective_of(tmp_path, rows)
    features = objective.encode(rows, learn=True)
    network = objective.network().eval()
    with torch.no_grad():
        loss = float(objective.loss(network, features, np.random.default_rng(0)))
        outputs = objective.predict(network, features)
    queries = np.stack([vectors[0] for vectors in outputs]).astype(np.float64)
    documents = np.stack([vectors[1] for vectors in outputs]).astype(np.float64)
    cosines = queries @ documents.T / 0.05
    # (0, 1) and (1, 0) answer the same question; row 2 asks for the text of document 0.
    banned = {(0, 1), (1, 0), (2, 0)}
    expected = 0.0
    for i in range(4):
        forth = [cosines[i, j] for j in range(4) if (i, j) not in banned]
        # The two equal questions are one candidate.
        askers = [j for j in range(4) if (j, i) not in banned and not (j == 1 and i != 1)]
        back = [cosines[j, i] for j in askers]
        expected += np.log(np.exp(forth).sum()) + np.log(np.exp(back).sum()) - 2 * cosines[i, i]
    assert loss == pytest.approx(expected / 2, rel=1e-4)


def test_rows_that_repeat_each_other_have_nothing_to_tell_apart(tmp_path: Path) -> None:
    rows = [RankRow("berlin", "Paris", (), "en", 1), RankRow("Berlin", "paris!", (), "en", 2)]
    objective = objective_of(tmp_path, rows)
    features = objective.encode(rows, learn=True)
    loss = objective.loss(objective.network().eval(), features, np.random.default_rng(0))
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)


def test_given_negatives_raise_the_loss(tmp_path: Path) -> None:
    bare = [RankRow("anna", "anna lives", (), "en", 1)]
    with_negative = [RankRow("anna", "anna lives", ("anna lives in paris",), "en", 1)]
    objective = objective_of(tmp_path, bare)
    network = objective.network().eval()
    losses = [
        float(
            objective.loss(
                network, objective.encode(rows, learn=True), np.random.default_rng(0)
            ).detach()
        )
        for rows in (bare, with_negative)
    ]
    assert losses[0] == pytest.approx(0.0, abs=1e-6)
    assert losses[1] > 1e-3


def test_mrr_counts_the_right_documents_of_a_query_and_ties_against_it(tmp_path: Path) -> None:
    rows = [
        RankRow("anna", "paris", (), "en", 1),
        RankRow("anna", "berlin", (), "en", 2),
        RankRow("world", "money", ("refund",), "en", 3),
    ]
    objective = objective_of(tmp_path, rows)
    features = objective.encode(rows, learn=False)
    axes = np.eye(4, dtype=np.float32)
    paris, berlin, money, refund = axes
    # "anna" is nearest to berlin, one of its two answers; "world" as near to money as to refund.
    anna, world = berlin + 0.1 * money, money + refund
    outputs = [
        np.stack([anna, paris]),
        np.stack([anna, berlin]),
        np.stack([world, money, refund]),
    ]
    assert objective.score(rows, features, outputs) == {"en": pytest.approx((1.0 + 0.5) / 2)}


def test_imitation_goes_to_the_teacher(tmp_path: Path) -> None:
    teacher = tiny_model(tmp_path / "teacher", "embed", seed=3)
    recipe = bitext(
        tmp_path, "embed.loss=imitate", f"embed.teacher={teacher}", "run.epochs=60", 'data.dev=""'
    )
    steps = run(recipe, tmp_path / "m")
    assert steps[-1].loss < steps[0].loss / 4
    with (
        xlmr.load(tmp_path / "m", precision="fp32") as student,
        xlmr.load(teacher, precision="fp32") as taught,
    ):
        for english, text, _ in BITEXT[1:2]:
            [wanted] = taught.embed([english])
            for side in (english, text):
                [found] = student.embed([side])
                assert found.vector @ wanted.vector > 0.9


def test_a_teacher_of_another_width_is_refused(tmp_path: Path) -> None:
    teacher = tiny_model(tmp_path / "teacher", "embed", hidden_size=16, num_attention_heads=2)
    recipe = bitext(tmp_path, "embed.loss=imitate", f"embed.teacher={teacher}")
    with pytest.raises(SettingsError, match="16 numbers, the encoder's 32"):
        training_of(recipe)


def test_what_cannot_be_learned_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="imitate learns from a bitext") as caught:
        training_of(ranked(tmp_path, "embed.loss=imitate"))
    assert "data.rows=bitext" in caught.value.hint
    with pytest.raises(SettingsError, match="imitate has no negatives"):
        training_of(bitext(tmp_path, "embed.loss=imitate", "embed.hard_negatives=1"))
    with pytest.raises(SettingsError, match="rows with scores have no negatives"):
        training_of(similar(tmp_path, "embed.hard_negatives=1"))


def test_scores_that_say_no_order_are_refused(tmp_path: Path) -> None:
    row = {"a": "anna", "b": "paris", "score": 1.0, "language": "en"}
    with pytest.raises(DataError, match="every row has the same score"):
        training_of(recipe_for(tmp_path, [row, {**row, "b": "berlin"}], "similarity"))
    rows = [row, {**row, "b": "berlin", "score": 2.0}]
    lonely = [*rows, {**row, "language": "ru"}]
    with pytest.raises(DataError, match=r"dev.jsonl:3: the only dev row in ru"):
        training_of(recipe_for(tmp_path, rows, "similarity", dev=lonely))


def test_cosent_is_zero_for_the_right_order_and_large_for_the_wrong(tmp_path: Path) -> None:
    training = training_of(similar(tmp_path, "embed.temperature=0.01"))
    objective, features = training.objective, training.features
    network = objective.network().eval()
    with torch.no_grad():
        vectors = objective.predict(network, features)
        cosines = np.array([pair[0] @ pair[1] for pair in vectors], np.float64)
        loss = float(objective.loss(network, features, np.random.default_rng(0)))
    scores = [score for *_, score in SIMILARITY]
    wrong = [
        (cosines[i] - cosines[j]) / 0.01
        for i in range(5)
        for j in range(5)
        if scores[i] < scores[j]
    ]
    assert loss == pytest.approx(5 * np.log1p(np.exp(wrong).sum()), rel=1e-3)


def test_a_long_text_is_cut_and_counted(tmp_path: Path) -> None:
    rows = [{"query": "anna", "positive": "hello world " * 50_000, "language": "en"}]
    rows += [{"query": "paris", "positive": "berlin", "language": "en"}]
    training = training_of(recipe_for(tmp_path, rows, "rank", "run.max_tokens=16"))
    assert training.truncated == 1
    assert max(len(text) for f in training.features for text in f.texts) == 16
