"""Which task a model and a file are for, on real tiny models; and masked words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import KINDS, tiny_model, write_linear_head

from xlmr.errors import DataError, TaskError
from xlmr.evaluation.report import build_report
from xlmr.evaluation.suites import columns_of, read_file, read_split
from xlmr.evaluation.tasks import (
    TASKS,
    Evaluation,
    find_task,
    make_evaluator,
    skills_of,
    values_by_language,
)
from xlmr.evaluation.tasks.fill import Fill
from xlmr.model.bundle import Bundle, open_bundle
from xlmr.model.predictor import Predictor, load
from xlmr.settings import Settings

SKILLS = {
    "embed": {"embed"},
    "fill": {"embed", "fill"},
    "tag": {"tag"},
    "answer": {"answer"},
    "classify": {"labels"},
    "multi_label": {"many labels"},
    "regression": {"number", "rerank"},
    "zero_shot": {"labels"},
    "rerank": {"number", "rerank"},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {kind: tiny_model(folder, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def bundles(models: dict[str, Path]) -> dict[str, Bundle]:
    return {kind: open_bundle(path) for kind, path in models.items()}


@pytest.fixture
def fill(models: dict[str, Path]) -> Iterator[Predictor]:
    with load(models["fill"], runtime="reference", precision="fp32", threads=1) as predictor:
        yield predictor


def test_what_a_model_can_do(bundles: dict[str, Bundle]) -> None:
    assert {kind: set(skills_of(bundle)) for kind, bundle in bundles.items()} == SKILLS


def test_a_fitted_head_gives_labels(tmp_path: Path) -> None:
    write_linear_head(tiny_model(tmp_path, "embed"), ("a", "b"))
    assert set(skills_of(open_bundle(tmp_path / "embed"))) == {"labels", "embed"}


@pytest.mark.parametrize(
    ("kind", "columns", "task"),
    [
        ("classify", "text label language", "classify"),
        ("zero_shot", "premise hypothesis label", "infer"),
        ("classify", "a b label", "paraphrase"),
        ("multi_label", "text labels", "multi-label"),
        ("regression", "text score", "score"),
        ("regression", "a b score", "similarity"),
        ("embed", "a b score", "similarity"),
        ("embed", "en text", "bitext"),
        ("fill", "en text", "bitext"),
        ("fill", "text label", "fill"),
        ("embed", "query positive", "rank"),
        ("rerank", "query positive negatives", "rerank"),
        ("tag", "tokens tags", "tag"),
        ("tag", "text spans", "tag"),
        ("answer", "id context question answers", "answer"),
    ],
)
def test_model_and_columns_say_the_task(
    bundles: dict[str, Bundle], kind: str, columns: str, task: str
) -> None:
    assert find_task(bundles[kind], columns.split(), {}) == task


def test_a_column_may_be_called_otherwise(bundles: dict[str, Bundle]) -> None:
    names = {"query": "question", "positive": "answer"}
    assert find_task(bundles["embed"], ["question", "answer", "source"], names) == "rank"
    with pytest.raises(DataError):
        find_task(bundles["embed"], ["question", "source"], names)


def test_what_does_not_fit_is_told_with_what_would(bundles: dict[str, Bundle]) -> None:
    with pytest.raises(DataError) as caught:
        find_task(bundles["embed"], ["text", "label"], {})
    assert "(label, text) fit classify" in caught.value.message
    assert "the model fits similarity, bitext, rank" in caught.value.message
    assert "--column" in caught.value.hint


def test_what_fits_twice_is_left_to_the_caller(bundles: dict[str, Bundle]) -> None:
    with pytest.raises(DataError, match="several tasks: similarity, bitext"):
        find_task(bundles["embed"], ["a", "b", "score", "en", "text"], {})


@pytest.mark.parametrize("task", sorted(TASKS))
def test_a_model_without_the_skill_is_refused(
    models: dict[str, Path], task: str, tmp_path: Path
) -> None:
    other = "answer" if task != "answer" else "tag"
    with (
        load(models[other], runtime="reference", precision="fp32", threads=1) as predictor,
        pytest.raises(TaskError, match=f"{task} needs a model that gives"),
    ):
        make_evaluator(task, predictor, [])


ROWS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "classify": ("classify", [{"text": "where is it", "label": "refund"}]),
    "multi-label": ("multi_label", [{"text": "where", "labels": ["angry"]}]),
    "score": ("regression", [{"text": "hello", "score": 1}, {"text": "world", "score": 2}]),
    "infer": ("zero_shot", [{"premise": "a", "hypothesis": "b", "label": "neutral"}]),
    "paraphrase": ("classify", [{"a": "hello", "b": "world", "label": "cancel"}]),
    "tag": ("tag", [{"tokens": ["Anna", "lives"], "tags": ["B-PER", "O"]}]),
    "answer": (
        "answer",
        [{"question": "who", "context": "anna lives", "answers": [{"text": "anna", "start": 0}]}],
    ),
    "similarity": ("embed", [{"a": "hello", "b": "world", "score": i} for i in (1, 2)]),
    "bitext": ("embed", [{"en": "hello", "text": "привет"}]),
    "rank": ("embed", [{"query": "where", "positive": "in paris"}]),
    "rerank": ("rerank", [{"query": "where", "positive": "in paris", "negatives": ["the"]}]),
    "fill": ("fill", [{"text": "where is my parcel"}]),
}
LONG = "where is my parcel " * 5_500  # 104,500 characters


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task_from_file_to_report(models: dict[str, Path], task: str, tmp_path: Path) -> None:
    """Two languages, one of them with a text of 100,000 characters, through the native engine."""
    kind, rows = ROWS[task]
    long = [_lengthened(row) for row in rows]
    for language, own in (("en", rows), ("sw", [*rows, *long])):
        path = tmp_path / f"{language}.test.jsonl"
        path.write_text("\n".join(map(json.dumps, own)), encoding="utf-8")
    torch.set_num_threads(1)
    settings = Settings(cache_dir=tmp_path / "cache", threads=1)
    found = find_task(open_bundle(models[kind]), columns_of(tmp_path, "test"), {})
    assert found == task
    files = read_split(tmp_path, "test", TASKS[task].schema)
    with load(models[kind], settings=settings) as predictor:
        evaluator = make_evaluator(task, predictor, files)
        judged = Evaluation(evaluator, files).run()
    report = build_report(evaluator, judged)
    assert {score.language for score in report.languages} == {"en", "sw"}
    assert report.n == 2 * len(rows) + len(long)
    # Answers and entities are looked for in windows; all else reads the beginning, and is counted.
    assert report.truncated == (0 if task in ("answer", "tag") else len(long))
    assert np.isfinite([report.macro, *report.more_macro.values()]).all()
    json.dumps(report.to_json(), allow_nan=False)
    assert values_by_language(judged)["sw"].shape[0] == len(rows) + len(long)


def _lengthened(row: dict[str, Any]) -> dict[str, Any]:
    """The same row with a very long text in the place that is read last."""
    if "tokens" in row:
        words = LONG.split()
        return {"tokens": [*row["tokens"], *words], "tags": [*row["tags"], *["O"] * len(words)]}
    column = next(
        name for name in ("context", "positive", "hypothesis", "b", "text") if name in row
    )
    return row | {column: f"{row[column]} {LONG}"}


def test_columns_are_those_of_the_first_row_there_is(tmp_path: Path) -> None:
    (tmp_path / "de.test.jsonl").write_text("\n")
    (tmp_path / "en.test.jsonl").write_text('{"text": "x", "label": "y"}')
    (tmp_path / "fr.dev.jsonl").write_text('{"a": 1}')
    assert columns_of(tmp_path, "test") == {"text", "label"}
    assert columns_of(tmp_path / "fr.dev.jsonl", "test") == {"a"}
    with pytest.raises(DataError, match="no rows for train"):
        columns_of(tmp_path, "train")
    with pytest.raises(DataError, match="no such file"):
        columns_of(tmp_path / "absent", "train")


def test_columns_of_every_format(tmp_path: Path) -> None:
    contents = {
        "a.csv": "text,label\nx,y\n",
        "a.tsv": "text\tlabel\nx\ty\n",
        "a.conll": "Anna B-PER\n",
        "a.txt": "x\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    assert columns_of(tmp_path / "a.csv", "") == columns_of(tmp_path / "a.tsv", "")
    assert {"tokens", "tags"} <= columns_of(tmp_path / "a.conll", "")
    assert columns_of(tmp_path / "a.txt", "") == {"text"}
    with pytest.raises(DataError, match="expected a file that ends in"):
        columns_of(Path(__file__), "")


def test_masked_words_are_scored_as_transformers_scores_them(
    models: dict[str, Path], fill: Predictor
) -> None:
    import transformers

    network = transformers.XLMRobertaForMaskedLM.from_pretrained(models["fill"]).eval()
    evaluator = Fill(fill, seed=3)
    text = "where is my parcel, anna lives in paris? мир 北京"
    encoding = fill.bundle.tokenizer.encode(text)
    places = evaluator._masks(text, encoding)
    ids = list(evaluator._masked(encoding, places).ids)
    assert [i for i, token in enumerate(ids) if token == fill.bundle.tokenizer.mask_id] == [
        place for word in places for place in word
    ]
    with torch.no_grad():
        logits_LV = network(input_ids=torch.tensor([ids])).logits[0]
    surprise, right = 0.0, 0
    for word in places:
        gold = [encoding.ids[place] for place in word]
        shares = logits_LV[list(word)].log_softmax(-1)
        surprise -= float(sum(shares[i, piece] for i, piece in enumerate(gold)))
        right += shares.argmax(-1).tolist() == gold
    [found] = evaluator.answers([_row(text)])
    assert found.outcome[0] == right
    assert found.outcome[1:] == pytest.approx((len(places), surprise, sum(map(len, places))), 1e-4)


def _row(text: str) -> Any:
    from xlmr.evaluation.suites import TextRow

    return TextRow(text, "en", 1)


def test_masks_cover_whole_words_follow_the_seed_and_leave_signs_alone(fill: Predictor) -> None:
    text = "where, is! my parcel? " * 10
    encoding = fill.bundle.tokenizer.encode(text)

    def masked(seed: int) -> list[str]:
        found = Fill(fill, seed)._masks(text, encoding)
        assert len(found) == 6  # 15 % of 40 words
        return [
            text[encoding.offsets[word[0]][0] : encoding.offsets[word[-1]][1]] for word in found
        ]

    assert set(masked(0)) <= {"where", "is", "my", "parcel"}
    assert masked(0) == masked(0)
    assert any(masked(0) != masked(seed) for seed in range(1, 5))


def test_a_language_without_words_is_an_error(fill: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "en.test.txt"
    path.write_text("!!!\n")
    files = [read_file(path, TASKS["fill"].schema)]
    with pytest.raises(DataError, match="no text has a word"):
        Evaluation(Fill(fill, 0), files).run()


def test_rows_whose_label_the_model_cannot_give_stop_or_count_as_wrong(
    models: dict[str, Path], tmp_path: Path
) -> None:
    rows = [{"text": "hello", "label": "refund"}, {"text": "world", "label": "praise"}]
    path = tmp_path / "en.test.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    files = read_split(tmp_path, "test", TASKS["classify"].schema)
    settings = Settings(cache_dir=tmp_path / "cache", runtime="reference", precision="fp32")
    with load(models["classify"], settings=settings) as predictor:
        with pytest.raises(DataError, match=r"en\.test\.jsonl:2: label: not among the model's"):
            make_evaluator("classify", predictor, files)
        evaluator = make_evaluator("classify", predictor, files, unknown_labels="wrong")
        report = build_report(evaluator, Evaluation(evaluator, files).run())
    assert report.n == 2
    assert report.macro <= 0.5
    assert np.isfinite(report.more_macro["brier"])
