"""Every evaluator on answers that are known: its values, its figure and what else it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xlmr.errors import DataError
from xlmr.evaluation.metrics.draws import whole
from xlmr.evaluation.suites import (
    Answer,
    AnswerRow,
    BitextRow,
    MultiLabelRow,
    PairRow,
    PairScoreRow,
    RankRow,
    Row,
    ScoreRow,
    Table,
    TagRow,
)
from xlmr.evaluation.suites.spans import entities_of_tags, join_words
from xlmr.evaluation.tasks import (
    Evaluation,
    Evaluator,
    answer,
    bitext,
    classify,
    multi_label,
    rank,
    rerank,
    score,
    similarity,
    tag,
)
from xlmr.types import (
    Accounting,
    Classification,
    Embedding,
    LabelScore,
    Ranked,
    SpanAnswer,
    Tagging,
)


def accounting(truncated: bool = False) -> Accounting:
    return Accounting(tokens=3, total_tokens=3, truncated=truncated, windows=1, unknown=0)


class Fake:
    """A predictor whose answers a test says; it remembers which prompts were asked for."""

    threshold = 0.5

    def __init__(self, say: Callable[[Any], Any], **config: Any) -> None:
        self._say = say
        self.prompts: list[str | None] = []
        self.bundle = SimpleNamespace(
            prompts={"query": "query: ", "passage": "passage: "}, raw_config=config
        )
        self.tasks = {"embed"}

    def classify(self, items: Sequence[Any], **_: Any) -> list[Classification]:
        found = []
        for item in items:
            said: dict[str, float] = self._say(item)
            ranked = sorted(said.items(), key=lambda pair: -pair[1])
            labels = tuple(LabelScore(label, value) for label, value in ranked)
            chosen = tuple(label for label, value in ranked if value >= self.threshold)
            found.append(
                Classification(labels, accounting(truncated="long" in item), chosen=chosen)
            )
        return found

    def embed(self, texts: Sequence[str], *, prompt: str | None = None) -> list[Embedding]:
        self.prompts.append(prompt)
        return [Embedding(np.array(self._say(t), np.float32), accounting()) for t in texts]

    def tag(self, texts: Sequence[str], *, long: str) -> list[Tagging]:
        assert long == "window"
        return [Tagging(self._say(text), accounting()) for text in texts]

    def answer(self, pairs: Sequence[tuple[str, str]]) -> list[SpanAnswer]:
        return [SpanAnswer(self._say(q), 0, 0, 1.0, 0.0, accounting()) for q, _ in pairs]

    def rerank(self, query: str, documents: Sequence[str]) -> list[Ranked]:
        scores = [self._say((query, document)) for document in documents]
        order = sorted(range(len(documents)), key=lambda i: -scores[i])
        return [Ranked(i, scores[i], accounting()) for i in order]


def files(*rows: Any) -> list[Table[Any]]:
    return [Table(Path("x.jsonl"), "", rows, 0, 0)]


def made(module: Any, say: Callable[[Any], Any], *rows: Any, **config: Any) -> Evaluation:
    evaluator: Evaluator = module.make(Fake(say, **config), files(*rows), seed=0)
    evaluation = Evaluation(evaluator, files(*rows))
    evaluation.run()
    return evaluation


def figure(evaluation: Evaluation) -> float:
    values_NK = np.array([row.values for row in evaluation.judged])
    return whole(evaluation.evaluator.figures, values_NK)


def more(evaluation: Evaluation) -> dict[str, float]:
    return dict(evaluation.evaluator.more(evaluation.judged))


def test_labels_and_how_sure_they_are() -> None:
    rows = [Row("a", "x", "en", 1), Row("b", "y", "en", 2), Row("long", "x", "en", 3)]
    found = made(classify, lambda text: {"x": 0.75, "y": 0.25}, *rows)
    assert [row.values for row in found.judged] == [(1.0,), (0.0,), (1.0,)]
    assert [row.truncated for row in found.judged] == [False, False, True]
    assert figure(found) == pytest.approx(2 / 3)
    figures = more(found)
    # The mean of |0.75 - k/3| over three draws at 0.75, of 200 samples.
    assert figures.pop("ece_by_chance") == pytest.approx(0.211, abs=0.03)
    assert figures == pytest.approx(
        {
            "macro_f1": 0.4,
            "ece": 0.75 - 2 / 3,
            "ece_beyond_chance": 0.0,
            # (0.25² · 2) twice, (0.75² · 2) once
            "brier": (2 * 0.125 + 1.125) / 3,
            "auroc": 0.5,
        }
    )


def test_pairs_are_read_as_pairs() -> None:
    seen = []

    def say(item: Any) -> dict[str, float]:
        seen.append(item)
        return {"entailment": 0.9, "neutral": 0.06, "contradiction": 0.04}

    found = made(classify, say, PairRow("premise", "hypothesis", "entailment", "en", 1))
    assert set(seen) == {("premise", "hypothesis")}
    assert figure(found) == 1.0
    assert "auroc" not in more(found)


def test_a_label_the_model_cannot_give_is_an_error_before_any_work() -> None:
    rows = [Row("a", "x", "en", 1), Row("b", "nobody", "en", 7)]
    with pytest.raises(DataError, match=r"x\.jsonl:7: label: not among the model's 2"):
        made(classify, lambda text: {"x": 0.75, "y": 0.25}, *rows)


def test_any_number_of_labels() -> None:
    said = {"a": {"x": 0.9, "y": 0.8}, "b": {"x": 0.1, "y": 0.6}, "c": {"x": 0.2, "y": 0.1}}
    rows = [
        MultiLabelRow("a", ("x",), "en", 1),
        MultiLabelRow("b", ("y",), "en", 2),
        MultiLabelRow("c", (), "en", 3),
    ]
    found = made(multi_label, said.__getitem__, *rows)
    assert [row.values for row in found.judged] == [(1, 1, 2), (1, 1, 1), (0, 0, 0)]
    assert figure(found) == pytest.approx(4 / 5)
    figures = more(found)
    assert figures["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert (figures["auroc:x"], figures["auroc:y"]) == (1.0, 0.5)
    assert figures["average_precision:y"] == pytest.approx(0.5)
    assert figures["auroc"] == 0.75


def test_a_label_that_every_row_has_cannot_be_ranked() -> None:
    found = made(multi_label, lambda t: {"x": 0.9, "y": 0.1}, MultiLabelRow("a", ("x",), "en", 1))
    assert set(more(found)) == {"macro_f1", "ece"}


def test_labels_are_given_from_the_models_own_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "threshold", 0.05)
    found = made(multi_label, lambda t: {"x": 0.9, "y": 0.1}, MultiLabelRow("a", ("x",), "en", 1))
    assert found.judged[0].values == (1, 1, 2)


def test_numbers() -> None:
    rows = [ScoreRow(str(i), float(i), "en", i) for i in range(5)]
    found = made(score, lambda text: {"stars": float(text) ** 3}, *rows)
    assert figure(found) == pytest.approx(1.0)
    assert 0.8 < more(found)["pearson"] < 1.0
    alone = made(score, lambda text: {"stars": 2.5}, rows[3])
    assert figure(alone) == 0.0
    assert more(alone) == {"mean_error": 0.5}


def test_numbers_are_not_asked_of_a_model_with_labels() -> None:
    with pytest.raises(DataError, match="gives 2 labels, not a number"):
        made(score, lambda text: {"x": 0.5, "y": 0.5}, ScoreRow("a", 1.0, "en", 1))


def tagged(words: str, tags: str, language: str = "en") -> TagRow:
    text, places = join_words(words.split())
    entities = entities_of_tags(text, places, tags.split())
    return TagRow(text, places, tuple(tags.split()), entities, 0, language, 1)


LABELS = {"id2label": {"0": "O", "1": "B-PER", "2": "I-PER", "3": "B-LOC", "4": "I-LOC"}}


def test_spans_count_with_label_and_both_ends() -> None:
    rows = [
        tagged("Anna Berg lives in Paris", "B-PER I-PER O O B-LOC"),
        tagged("Berlin is here", "B-LOC O O"),
    ]
    said = {
        rows[0].text: tagged("Anna Berg lives in Paris", "B-PER O O O B-LOC").entities,
        rows[1].text: tagged("Berlin is here", "B-LOC O O").entities,
    }
    found = made(tag, said.__getitem__, *rows, **LABELS)
    assert [row.values for row in found.judged] == [(1, 2, 2), (1, 1, 1)]
    assert figure(found) == pytest.approx(2 / 3)
    figures = more(found)
    assert (figures["f1:PER"], figures["f1:LOC"]) == (0.0, 1.0)
    assert figures["precision"] == figures["recall"] == pytest.approx(2 / 3)
    assert figures["macro_f1"] == 0.5


def test_an_entity_that_ends_inside_a_word_takes_the_whole_word() -> None:
    row = tagged("Parisians live here", "B-LOC O O")
    half = entities_of_tags("Paris", [(0, 5)], ["B-LOC"])
    assert figure(made(tag, lambda text: half, row, **LABELS)) == 1.0


def test_a_model_that_marks_none_of_the_labels_is_refused() -> None:
    with pytest.raises(DataError, match="marks none of PER"):
        made(tag, lambda text: (), tagged("Anna", "B-PER"), id2label={"0": "O", "1": "B-GENE"})


def test_answers_are_compared_by_the_rules_of_their_language() -> None:
    rows = [
        AnswerRow("q1", "the Eiffel tower", (Answer("Eiffel tower", 4),), "", "eng_Latn", 1),
        AnswerRow("q2", "der Turm", (Answer("Turm", 4),), "", "de", 2),
        AnswerRow("q3", "none", (), "", "de", 3),
    ]
    said = {"q1": "The Eiffel tower", "q2": "der Turm und", "q3": ""}
    found = made(answer, said.__getitem__, *rows)
    # Languages come in alphabetical order.
    assert [row.values for row in found.judged] == [(pytest.approx(2 / 3), 0), (1, 1), (1, 1)]
    assert figure(found) == pytest.approx((2 / 3 + 2) / 3)
    assert more(found) == {"exact_match": pytest.approx(2 / 3)}


def test_cosines_are_ranked_against_the_scores() -> None:
    vectors = {"east": [1, 0], "north": [0, 2], "northeast": [3, 3]}
    rows = [
        PairScoreRow("east", "east", 5.0, "en", 1),
        PairScoreRow("east", "northeast", 3.0, "en", 2),
        PairScoreRow("east", "north", 0.0, "en", 3),
    ]
    found = made(similarity, vectors.__getitem__, *rows)
    assert [row.values[1] for row in found.judged] == pytest.approx([1.0, 0.5**0.5, 0.0])
    assert figure(found) == pytest.approx(1.0)
    assert more(found)["pearson"] < 1.0


def test_both_directions_of_a_bitext() -> None:
    vectors = {"one": [1, 0], "eins": [1, 0.1], "two": [0, 1], "zwei": [1, 0.2]}
    rows = [BitextRow("one", "eins", "de", 1), BitextRow("two", "zwei", "de", 2)]
    found = made(bitext, vectors.__getitem__, *rows)
    # zwei is nearest to one; from English each finds its own.
    assert [row.values for row in found.judged] == [(1, 1), (0, 1)]
    assert figure(found) == 0.75
    assert more(found) == {"into_english": 0.5, "from_english": 1.0}


def test_each_language_has_its_own_english_side() -> None:
    vectors = {"one": [1, 0], "eins": [1, 0.1], "two": [0.9, 0.1], "deux": [0, 1]}
    rows = [BitextRow("one", "eins", "de", 1), BitextRow("two", "deux", "fr", 1)]
    assert figure(made(bitext, vectors.__getitem__, *rows)) == 1.0


def test_documents_are_found_among_all_of_their_language() -> None:
    vectors = {"q": [1, 0], "r": [0, 1], "right": [1, 0.5], "near": [1, 0.1], "r's": [0, 1]}
    rows = [RankRow("q", "right", ("near",), "en", 1), RankRow("r", "r's", (), "en", 2)]
    found = made(rank, vectors.__getitem__, *rows)
    assert [row.values[0] for row in found.judged] == [0.5, 1.0]
    assert figure(found) == 0.75
    assert more(found) == {
        "ndcg@10": pytest.approx((1 / np.log2(3) + 1) / 2),
        "recall@1": 0.5,
        "recall@10": 1.0,
    }
    predictor: Any = found.evaluator._predictor  # type: ignore[attr-defined]
    assert set(predictor.prompts) == {"query", "passage"}


def test_every_document_named_for_a_query_is_right() -> None:
    vectors = {"q": [1, 0], "first": [1, 0.1], "second": [1, 0.5], "other": [0, 1]}
    rows = [RankRow("q", "second", (), "en", 1), RankRow("q", "first", ("other",), "en", 2)]
    found = made(rank, vectors.__getitem__, *rows)
    assert [row.values[0] for row in found.judged] == [1.0, 1.0]
    assert [row.values[2] for row in found.judged] == [0.5, 0.5]  # one of two


def test_own_documents_are_put_in_order() -> None:
    row = RankRow("q", "right", ("a", "b", "c"), "en", 1)
    scores = {"right": 0.5, "a": 0.9, "b": 0.1, "c": 0.2}
    found = made(rerank, lambda pair: scores[pair[1]], row)
    assert found.judged[0].values[0] == 0.5
    assert found.judged[0].tokens == 4 * 3


def test_a_model_that_knows_nothing_does_not_look_good() -> None:
    """Equal scores keep the order they were given in: the right document must not come first."""
    rows = [RankRow(f"q{i}", f"d{i}", (), "en", i) for i in range(60)]
    found = made(rerank, lambda pair: 0.5, *rows)
    assert figure(found) < 0.4
    again = made(rerank, lambda pair: 0.5, *rows)
    assert [row.values for row in again.judged] == [row.values for row in found.judged]


def test_rows_are_answered_once_and_in_order() -> None:
    rows = [Row(str(i), "x", ("de", "en")[i % 2], i) for i in range(150)]
    evaluator = classify.make(
        Fake(lambda text: {"x": 0.75, "y": 0.25}),  # type: ignore[arg-type]
        files(*rows),
        seed=0,
    )
    evaluation = Evaluation(evaluator, files(*rows))
    assert [each.row for each in evaluation] == rows[::2] + rows[1::2]
    assert [each.row for each in evaluation.judged] == rows[::2] + rows[1::2]
