"""A model is scored on whatever labelled rows fit what it does, language by language."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import tiny_model

from xlmr.errors import DataError
from xlmr.model.bundle import open_bundle
from xlmr.model.predictor import load
from xlmr.settings import Settings
from xlmr.training.trial import read_trial

TEXTS = ("where is my parcel", "hello world", "anna lives in paris", "the money")


def scored(
    model: Path, folder: Path, rows: Mapping[str, list[dict[str, Any]]], *languages: str
) -> tuple[str, dict[str, float]]:
    folder.mkdir()
    for language, said in rows.items():
        (folder / f"{language}.test.jsonl").write_text("\n".join(map(json.dumps, said)))
    trial = read_trial(folder, "test", languages, open_bundle(model))
    settings = Settings(threads=1, cache_dir=folder / "cache")
    with load(model, precision="fp32", settings=settings) as predictor:
        return trial.score(predictor)


def test_bitexts_score_sentence_vectors(tmp_path: Path) -> None:
    own = [{"en": text, "text": text} for text in TEXTS]
    other = [{"en": a, "text": b} for a, b in zip(TEXTS, reversed(TEXTS), strict=True)]
    model = tiny_model(tmp_path, "embed")
    rows = {"deu": own, "fra": other, "rus": own}
    metric, found = scored(model, tmp_path / "data", rows, "de", "fr")
    assert (metric, found) == ("bitext_accuracy", {"deu": 1.0, "fra": 0.0})


@pytest.mark.parametrize("columns", [("text",), ("premise", "hypothesis"), ("a", "b")])
def test_labels_score_classifiers_of_texts_and_of_pairs(
    tmp_path: Path, columns: tuple[str, ...]
) -> None:
    model = tiny_model(tmp_path)
    with load(model, precision="fp32", settings=Settings(threads=1)) as predictor:
        items = [text if len(columns) == 1 else (text, "hello") for text in TEXTS]
        said = [answer.label for answer in predictor.classify(items)]
    rows = [
        dict(zip(columns, (text, "hello"), strict=False)) | {"label": label}
        for text, label in zip(TEXTS, said, strict=True)
    ]
    rows[0]["label"] = "something else"
    assert scored(model, tmp_path / "data", {"en": rows}) == ("accuracy", {"en": 0.75})


def test_tags_score_taggers(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, "tag")
    texts = [*TEXTS, *(f"{text} berlin" for text in TEXTS)]
    with load(model, precision="fp32", settings=Settings(threads=1)) as predictor:
        said = [answer.entities for answer in predictor.tag(texts)]
    assert any(said)
    rows = [
        {"text": t, "spans": [{"start": e.start, "end": e.end, "label": e.label} for e in found]}
        for t, found in zip(texts, said, strict=True)
    ]
    none = [row | {"spans": []} for row in rows]
    metric, found = scored(model, tmp_path / "data", {"en": rows, "de": none})
    assert (metric, found) == ("span_f1", {"de": 0.0, "en": 1.0})


def test_answers_score_answerers(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, "answer")
    with load(model, precision="fp32", settings=Settings(threads=1)) as predictor:
        said = predictor.answer([("where", text) for text in TEXTS])
    rows = [
        {
            "question": "where",
            "context": text,
            "answers": [{"text": a.text, "start": a.start}] if a.text else [],
        }
        for text, a in zip(TEXTS, said, strict=True)
    ]
    assert scored(model, tmp_path / "data", {"en": rows}) == ("f1", {"en": 1.0})


def test_sets_of_labels_score_multi_label_models(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, "multi_label")
    with load(model, precision="fp32", settings=Settings(threads=1)) as predictor:
        said = [list(answer.chosen or ()) for answer in predictor.classify(TEXTS)]
    assert any(said)
    rows = [{"text": text, "labels": own} for text, own in zip(TEXTS, said, strict=True)]
    other = [row | {"labels": ["something else"]} for row in rows]
    metric, found = scored(model, tmp_path / "data", {"en": rows, "de": other})
    assert (metric, found) == ("micro_f1", {"de": 0.0, "en": 1.0})


def test_numbers_score_regressions(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, "regression")
    with load(model, precision="fp32", settings=Settings(threads=1)) as predictor:
        said = [answer.score for answer in predictor.classify(TEXTS, raw_scores=True)]
    rows = [{"text": text, "score": score} for text, score in zip(TEXTS, said, strict=True)]
    turned = [row | {"score": -row["score"]} for row in rows]
    metric, found = scored(model, tmp_path / "data", {"en": rows, "de": turned})
    assert (metric, found) == ("spearman", pytest.approx({"de": -1.0, "en": 1.0}))


def test_documents_score_rerankers(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, "rerank")
    with load(model, precision="fp32", settings=Settings(threads=1)) as predictor:
        order = [TEXTS[each.index] for each in predictor.rerank("where", TEXTS)]
    best = [{"query": "where", "positive": order[0], "negatives": order[1:]}]
    worst = [{"query": "where", "positive": order[-1], "negatives": order[:-1]}]
    metric, found = scored(model, tmp_path / "data", {"en": best, "de": worst})
    assert (metric, found) == ("mrr", {"de": 0.25, "en": 1.0})


def test_plain_texts_score_models_that_fill(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, "fill")
    rows = {language: [{"text": text} for text in TEXTS] for language in ("en", "de")}
    metric, found = scored(model, tmp_path / "data", rows)
    assert metric == "masked_word_accuracy"
    assert found["en"] == found["de"] <= 1.0


def test_rows_of_another_task_are_refused(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, "embed")
    with pytest.raises(DataError, match="the model fits similarity, bitext, rank") as refused:
        scored(model, tmp_path / "data", {"en": [{"text": "a", "label": "b"}]})
    assert "xlmr evaluate" in refused.value.hint
