"""Answers are taught where they stand, window by window, and scored as the serving head answers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import tiny_model

import xlmr
from xlmr.errors import DataError
from xlmr.evaluation.metrics.answers import answer_f1
from xlmr.evaluation.suites import AnswerRow
from xlmr.model.bundle import open_bundle
from xlmr.training.data import read_examples
from xlmr.training.devices import Device
from xlmr.training.networks import padded
from xlmr.training.objective import Feature
from xlmr.training.objectives import schema_of
from xlmr.training.objectives.answer import Answers
from xlmr.training.recipe import Recipe, make_recipe
from xlmr.training.run import Training
from xlmr.training.rundir import open_run

WHERE = "where is Anna"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def asked(context: str, *answers: str, question: str = WHERE, language: str = "en") -> Any:
    """A row; an answer is the first place where its text stands."""
    said = [{"text": text, "start": context.index(text)} for text in answers]
    return {"question": question, "context": context, "answers": said, "language": language}


def write(path: Path, rows: Sequence[Any]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def recipe_of(
    directory: Path,
    rows: Sequence[Any],
    dev: Sequence[Any] | None = None,
    *,
    kind: str = "embed",
    positions: int = 514,
    run: dict[str, Any] | None = None,
    **answer: Any,
) -> Recipe:
    encoder = tiny_model(directory, kind, positions=positions)
    files = {
        "train": write(directory / "train.jsonl", rows),
        "dev": write(directory / "dev.jsonl", rows if dev is None else dev),
    }
    return make_recipe(
        {
            "task": "answer",
            "encoder": str(encoder),
            "data": {**files, "near_duplicates": "keep"},
            "run": {"precision": "fp32", **(run or {})},
            "optimizer": {"learning_rate": 1e-2},
            "answer": answer,
        }
    )


def objective_of(recipe: Recipe) -> tuple[Answers, tuple[AnswerRow, ...]]:
    examples = read_examples(recipe.data, schema_of(recipe))
    return Answers(open_bundle(Path(recipe.encoder)), recipe, examples), examples.train


def taught(objective: Answers, rows: Sequence[AnswerRow]) -> list[str | None]:
    """The pieces that each window's target covers, joined; None where it says "not here"."""
    found: list[str | None] = []
    for feature in objective.encode(rows, learn=True):
        first, last = feature.target.span
        ids = feature.texts[0][first : last + 1]
        pieces = "".join(objective.bundle.tokenizer.piece(id) for id in ids)
        found.append(pieces.replace("▁", " ").strip() if first else None)
        assert (first == 0) == (last == 0)
    return found


def certain(feature: Feature, answer: tuple[int, int]) -> np.ndarray:
    """Scores that are sure of a span of the context's characters, or of `<s>` for (0, 0)."""
    logits_2L = np.zeros((2, feature.length), np.float32)
    places = [(0, 0)] if answer == (0, 0) else [
        (i, i)
        for i, (start, end) in enumerate(feature.target.offsets)
        if feature.target.segments[i] == 1 and start < end and start < answer[1] and end > answer[0]
    ]  # fmt: skip
    if places:
        logits_2L[0, places[0][0]] = logits_2L[1, places[-1][1]] = 20.0
    else:
        logits_2L[:, 0] = 20.0
    return logits_2L


def test_an_answer_is_the_tokens_that_show_it(tmp_path: Path) -> None:
    rows = [
        asked("Anna lives in Paris .", "in Paris"),
        asked("the parcel is in Berlin", "Berlin"),
        asked("Anna lives in Paris", "Anna"),
    ]
    objective, read = objective_of(recipe_of(tmp_path, rows))
    assert taught(objective, read) == ["in Paris", "Berlin", "Anna"]
    for feature in objective.encode(read, learn=True):
        assert feature.texts[0][feature.target.context - 1] == objective.bundle.tokenizer.eos_id


def test_an_answer_that_is_cut_inside_a_token_takes_the_whole_token(tmp_path: Path) -> None:
    rows = [asked("i am in paris now", "ari"), asked("i am in paris now", "n par")]
    objective, read = objective_of(recipe_of(tmp_path, rows))
    assert taught(objective, read) == ["paris", "in paris"]


def test_blanks_around_an_answer_are_not_of_it(tmp_path: Path) -> None:
    objective, read = objective_of(recipe_of(tmp_path, [asked("Anna is in paris .", " in paris ")]))
    assert taught(objective, read) == ["in paris"]


def test_an_unspaced_script_is_answered_from_inside_a_run(tmp_path: Path) -> None:
    row = asked("我住在北京", "北京", language="zh")
    objective, read = objective_of(recipe_of(tmp_path, [row]))
    assert taught(objective, read) == ["北京"]


def test_a_row_without_an_answer_teaches_so(tmp_path: Path) -> None:
    rows = [asked("Anna lives in Paris", "Paris"), asked("hello world")]
    objective, read = objective_of(recipe_of(tmp_path, rows))
    assert taught(objective, read) == ["Paris", None]


def test_the_first_of_several_answers_is_learned_from(tmp_path: Path) -> None:
    row = asked("Anna lives in Paris in the world", "Paris", "in Paris", "world")
    objective, read = objective_of(recipe_of(tmp_path, [row]))
    assert taught(objective, read) == ["Paris"]


LONG = "hello world " * 10 + "Anna lives in paris " + "the parcel is not arrived " * 6


def test_windows_keep_the_question_and_share_the_stride(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, [asked(LONG, "in paris")], run={"max_tokens": 24}, stride=5)
    objective, read = objective_of(recipe)
    features = objective.encode(read, learn=True)
    head = features[0].target.context
    assert len(features) > 3
    for before, after in itertools.pairwise(features):
        assert len(after.texts[0]) == 24
        assert after.texts[0][:head] == before.texts[0][:head]
        if after is not features[-1]:
            assert after.texts[0][head : head + 5] == before.texts[0][-6:-1]


def test_only_windows_that_hold_the_answer_learn_it(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, [asked(LONG, "in paris")], run={"max_tokens": 24}, stride=5)
    objective, read = objective_of(recipe)
    tokenizer = objective.bundle.tokenizer
    features, said = objective.encode(read, learn=True), taught(objective, read)
    sought = (tokenizer.piece_id("▁in"), tokenizer.piece_id("▁paris"))
    whole = [sought in itertools.pairwise(feature.texts[0]) for feature in features]
    assert said == ["in paris" if here else None for here in whole]
    assert 0 < sum(whole) < len(features)


def test_a_window_that_holds_half_an_answer_learns_that_it_is_not_there(tmp_path: Path) -> None:
    recipe = recipe_of(
        tmp_path, [asked(LONG, "Anna lives in paris")], run={"max_tokens": 20}, stride=8
    )
    objective, read = objective_of(recipe)
    paris = objective.bundle.tokenizer.piece_id("▁paris")
    features = objective.encode(read, learn=True)
    held = [f.target.span != (0, 0) for f in features if paris in f.texts[0]]
    assert set(held) == {True, False}


def test_a_window_without_the_first_answer_learns_from_the_second(tmp_path: Path) -> None:
    row = asked(LONG, "Anna", "arrived")
    recipe = recipe_of(tmp_path, [row], run={"max_tokens": 24}, stride=5)
    objective, read = objective_of(recipe)
    said = taught(objective, read)
    assert {"Anna", "arrived"} <= set(said)


def test_a_row_whose_answer_is_longer_than_a_window_is_left_out(tmp_path: Path) -> None:
    rows = [asked(LONG, LONG[130:250].strip()), asked("Anna is in paris", "paris")]
    recipe = recipe_of(tmp_path, rows, run={"max_tokens": 24}, stride=5)
    objective, read = objective_of(recipe)
    assert {feature.row for feature in objective.encode(read, learn=True)} == {1}
    with pytest.raises(DataError, match="no answer fits into a window of 24 tokens"):
        objective.encode(read[:1], learn=True)


def test_rows_of_no_answer_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl: no row has an answer"):
        objective_of(recipe_of(tmp_path, [asked("hello world")]))
    recipe = recipe_of(tmp_path, [asked("Anna is in paris", "paris")], [asked("hello world")])
    with pytest.raises(DataError, match=r"dev\.jsonl: no dev row has an answer"):
        objective_of(recipe)


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_question_that_leaves_no_room_is_named(tmp_path: Path, split: str) -> None:
    short = asked("Anna is in paris", "paris")
    rows = [short, asked(LONG, "paris", question="where is my parcel " * 8)]
    recipe = recipe_of(
        tmp_path,
        rows if split == "train" else [short],
        rows,
        positions=514 if split == "train" else 34,
        run={"max_tokens": 32},
        stride=8,
    )
    examples = read_examples(recipe.data, schema_of(recipe))
    objective = Answers(open_bundle(Path(recipe.encoder)), recipe, examples)
    with pytest.raises(DataError, match=rf"{split}\.jsonl:2: question: 32 tokens") as caught:
        objective.encode(getattr(examples, split), learn=split == "train")
    assert "answer.stride" in caught.value.hint
    assert "parcel" not in str(caught.value)


def test_the_network_has_two_outputs_whatever_labels_the_encoder_brings(tmp_path: Path) -> None:
    rows = [asked("Anna is in paris", "paris")]
    objective, _ = objective_of(recipe_of(tmp_path, rows, kind="classify"))
    assert objective.network().qa_outputs.weight.shape == (2, 32)


def test_the_loss_lets_context_and_nowhere_compete_and_nothing_else(tmp_path: Path) -> None:
    rows = [asked("Anna lives in paris", "paris"), asked("hello world , the parcel is not there")]
    objective, read = objective_of(recipe_of(tmp_path, rows))
    features = objective.encode(read, learn=True)
    network = objective.network().eval()
    with torch.no_grad():
        loss = float(objective.loss(network, features, np.random.default_rng(0)))
        said = network(**padded([f.texts[0] for f in features], network))
    expected = 0.0
    for i, feature in enumerate(features):
        for logits_BL, place in zip(
            (said.start_logits, said.end_logits), feature.target.span, strict=True
        ):
            open_L = [0, *range(feature.target.context, feature.length - 1)]
            among = torch.log_softmax(logits_BL[i, open_L], dim=-1)
            expected -= float(among[open_L.index(place)]) / 2
    assert loss == pytest.approx(expected, rel=1e-5)
    assert [objective.weight(feature) for feature in features] == [1.0, 1.0]


def test_scores_are_by_language_against_the_nearest_answer(tmp_path: Path) -> None:
    rows = [
        asked("Anna lives in the Paris of the world", "Paris of", "the Paris"),
        asked("hello world"),
        asked("я в Paris", "Paris", language="ru"),
        asked("die Anna", "Anna", language="deu"),
    ]
    objective, read = objective_of(recipe_of(tmp_path, rows))
    features = objective.encode(read, learn=False)
    the_paris, nowhere, in_russian, with_article = (14, 23), (0, 0), (0, 9), (0, 8)
    outputs = [
        certain(feature, answer)
        for feature, answer in zip(
            features, (the_paris, nowhere, in_russian, with_article), strict=True
        )
    ]
    # English forgives its articles, German its own; Russian has none to forgive.
    assert objective.score(read, features, outputs) == pytest.approx(
        {"deu": 1.0, "en": 1.0, "ru": 0.5}
    )
    outputs[1] = certain(features[1], (0, 5))
    assert objective.score(read, features, outputs)["en"] == pytest.approx(0.5)


def test_the_best_window_answers_and_no_answer_is_longer_than_asked(tmp_path: Path) -> None:
    rows = [asked(LONG, "in paris")]
    recipe = recipe_of(tmp_path, rows, positions=26, stride=3, max_answer_tokens=1)
    objective, read = objective_of(recipe)
    features = objective.encode(read, learn=False)
    assert len(features) > 3
    start = LONG.index("in paris")
    outputs = [certain(feature, (start + 3, start + 8)) for feature in features]
    assert objective.score(read, features, outputs)["en"] == pytest.approx(2 / 3)
    for output in outputs:
        output[0] = np.roll(output[0], -1)  # "in paris" is two tokens and may not be said
    assert objective.score(read, features, outputs)["en"] != pytest.approx(1.0)


VERY_LONG = "hello world " * 80 + "Anna lives in paris"
ROWS = [
    asked("Anna lives in paris .", "paris"),
    asked("Anna is not in paris , Anna is in berlin", "berlin"),
    asked("the parcel arrived", "arrived", question="where is my parcel"),
    asked("hello world"),
    asked("посылка где Анна", "где Анна", language="ru"),
]


def f1_of(path: Path, rows: Sequence[AnswerRow], precision: str, runtime: str) -> dict[str, float]:
    with xlmr.load(path, runtime=runtime, precision=precision) as predictor:
        answers = predictor.answer([(row.question, row.context) for row in rows])
    assert max(answer.accounting.windows for answer in answers) > 1
    found: dict[str, list[float]] = {}
    for row, answer in zip(rows, answers, strict=True):
        golds = [gold.text for gold in row.answers]
        found.setdefault(row.language, []).append(answer_f1(answer.text, golds, row.language))
    return {language: float(np.mean(values)) for language, values in found.items()}


@pytest.mark.parametrize("max_tokens", [256, 24])
def test_the_written_model_scores_what_the_run_said(tmp_path: Path, max_tokens: int) -> None:
    rows = [*ROWS, asked(VERY_LONG, "in paris")]
    # Contradicted by what is learned, so that the score is neither 0 nor 1 and says something.
    dev = [*rows, asked("Anna lives in paris .", "lives"), asked(VERY_LONG, "Anna")]
    recipe = recipe_of(
        tmp_path, rows, dev, positions=130, stride=8, run={"epochs": 8, "max_tokens": max_tokens}
    )
    examples = read_examples(recipe.data, schema_of(recipe))
    training = Training(recipe, open_bundle(Path(recipe.encoder)), examples, Device())
    with open_run(tmp_path / "m", training.identity(), recipe.to_toml(), fresh=False) as directory:
        list(training.steps(directory))
        training.write(tmp_path / "m", force=False)
    best = max(training.scores, key=lambda score: score.macro)
    assert 0.1 < best.by_language["en"] < 1.0
    for runtime in ("reference", "native"):
        found = f1_of(tmp_path / "m", examples.dev, "fp32", runtime)
        assert found == pytest.approx(best.by_language)


def test_answers_are_learned(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, ROWS, run={"epochs": 30})
    examples = read_examples(recipe.data, schema_of(recipe))
    training = Training(recipe, open_bundle(Path(recipe.encoder)), examples, Device())
    with open_run(tmp_path / "m", training.identity(), "", fresh=False) as directory:
        steps = list(training.steps(directory))
    assert steps[-1].loss < steps[0].loss / 4
    assert max(score.macro for score in training.scores) == 1.0
