"""What each task expects of a row, and how it says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xlmr.errors import DataError
from xlmr.evaluation.suites import (
    ANSWER,
    BITEXT,
    INFER,
    MULTI_LABEL,
    PARAPHRASE,
    PLAIN_TEXT,
    RANK,
    SCORE,
    SIMILARITY,
    TAG,
    TAG_WORDS,
    Answer,
    AnswerRow,
    BitextRow,
    MultiLabelRow,
    PairRow,
    PairScoreRow,
    RankRow,
    Schema,
    ScoreRow,
    TextRow,
    read_file,
)

TOKENS = {"tokens": ["Ada", "Lovelace", "saw", "Rome"], "tags": ["B-PER", "I-PER", "O", "B-LOC"]}
SPANS = {"text": "Adas Rome", "spans": [{"start": 0, "end": 3, "label": "PER"}]}
QUESTION = {"context": "She saw Rome.", "question": "What?", "id": "q1"}
ROME = {"text": "Rome", "start": 8}


def read(tmp_path: Path, schema: Schema[Any], *rows: object) -> tuple[Any, ...]:
    path = tmp_path / "en.test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_file(path, schema).rows


@pytest.mark.parametrize(
    ("schema", "given", "row"),
    [
        (
            MULTI_LABEL,
            {"text": "a", "labels": ["y", " x "]},
            MultiLabelRow("a", ("x", "y"), "en", 1),
        ),
        (MULTI_LABEL, {"text": "a", "labels": []}, MultiLabelRow("a", (), "en", 1)),
        (SCORE, {"text": "a", "score": -2}, ScoreRow("a", -2.0, "en", 1)),
        (
            INFER,
            {"premise": "a", "hypothesis": "b", "label": "neutral"},
            PairRow("a", "b", "neutral", "en", 1),
        ),
        (PARAPHRASE, {"a": "a", "b": "b", "label": "0"}, PairRow("a", "b", "0", "en", 1)),
        (SIMILARITY, {"a": "a", "b": "b", "score": 4.5}, PairScoreRow("a", "b", 4.5, "en", 1)),
        (BITEXT, {"en": "a", "text": "b"}, BitextRow("a", "b", "en", 1)),
        (
            RANK,
            {"query": "a", "positive": "b", "negatives": ["c"]},
            RankRow("a", "b", ("c",), "en", 1),
        ),
        (RANK, {"query": "a", "positive": "b"}, RankRow("a", "b", (), "en", 1)),
        (
            RANK.with_columns(query="question", positive="answer"),
            {"question": "a", "answer": "b"},
            RankRow("a", "b", (), "en", 1),
        ),
        (PLAIN_TEXT, {"text": "a", "label": 7}, TextRow("a", "en", 1)),
        (
            ANSWER,
            QUESTION | {"answers": [ROME]},
            AnswerRow("What?", "She saw Rome.", (Answer("Rome", 8),), "q1", "en", 1),
        ),
        (
            ANSWER,
            QUESTION | {"answers": {"text": ["Rome"], "answer_start": [8]}, "id": ""},
            AnswerRow("What?", "She saw Rome.", (Answer("Rome", 8),), "", "en", 1),
        ),
        (
            ANSWER,
            QUESTION | {"answers": [{"text": "", "start": 0}]},
            AnswerRow("What?", "She saw Rome.", (), "q1", "en", 1),
        ),
    ],
)
def test_a_row_of_every_task(
    tmp_path: Path, schema: Schema[Any], given: dict[str, Any], row: object
) -> None:
    assert read(tmp_path, schema, given) == (row,)


@pytest.mark.parametrize(
    ("schema", "row", "message"),
    [
        (MULTI_LABEL, {"text": "a", "labels": "secret"}, "labels: expected a list, got text"),
        (MULTI_LABEL, {"text": "a", "labels": ["x", 7]}, "labels[1]: expected text, got a number"),
        (MULTI_LABEL, {"text": "a", "labels": ["x", "x "]}, "labels: the same label twice"),
        (SCORE, {"text": "a", "score": "4"}, "score: expected a number, got text"),
        (SCORE, {"text": "a", "score": True}, "score: expected a number, got true or false"),
        (SCORE, {"text": "a", "score": float("nan")}, "score: expected a number that is finite"),
        (SCORE, {"text": "a", "score": 10**400}, "score: expected a number that is finite"),
        (INFER, {"premise": "a", "label": "x"}, "hypothesis: missing"),
        (BITEXT, {"en": "a", "text": None}, "text: expected text, got null"),
        (
            RANK,
            {"query": "a", "positive": "b", "negatives": ["c", "b"]},
            "negatives[1]: is also the positive",
        ),
        (
            RANK.with_columns(query="q"),
            {"q": " ", "positive": "b"},
            "q: expected text, got nothing",
        ),
        (TAG, TOKENS | {"tags": ["O"]}, "tags: 1 tags for 4 words"),
        (
            TAG,
            TOKENS | {"tags": ["O", "O", "secret", "O"]},
            "tags[2]: expected O, B-… or I-…",
        ),
        (TAG, TOKENS | {"tokens": ["a", "", "b", "c"]}, "tokens[1]: expected text, got nothing"),
        (TAG, {"tokens": [], "tags": []}, "tokens: expected words, got none"),
        (TAG, TOKENS | {"text": "Ada saw Rome"}, "tokens[1]: is not what follows in the text"),
        (TAG, {"tags": ["O"]}, "tokens: missing"),
        (TAG, {"text": "secret"}, "tokens: missing"),
        (TAG, SPANS | {"spans": ["secret"]}, "spans[0]: expected an object, got text"),
        (TAG, SPANS | {"spans": [{"start": 0}]}, "spans[0].end: expected a whole number, got null"),
        (
            TAG,
            SPANS | {"spans": [{"start": 5, "end": 99, "label": "LOC"}]},
            "spans[0].end: expected 6 to 9",
        ),
        (
            TAG,
            SPANS | {"spans": [{"start": 4, "end": 5, "label": "LOC"}]},
            "spans[0]: covers nothing but blanks",
        ),
        (
            TAG,
            SPANS | {"spans": [{"start": 2, "end": 4, "label": "X"}, *SPANS["spans"]]},
            "spans[0].start: overlaps another span",
        ),
        (TAG_WORDS, {"tokens": ["a"], "tags": [""]}, "tags[0]: expected text, got nothing"),
        (ANSWER, QUESTION | {"answers": None}, "answers: expected a list, got null"),
        (ANSWER, QUESTION | {"answers": ["secret"]}, "answers[0]: expected an object, got text"),
        (
            ANSWER,
            QUESTION | {"answers": [ROME, ROME | {"start": 7}]},
            "answers[1].start: the answer does not stand there in the context",
        ),
        (
            ANSWER,
            QUESTION | {"answers": [ROME | {"start": -5}]},
            "answers[0].start: expected 0 to 12",
        ),
        (
            ANSWER,
            QUESTION | {"answers": [{"text": "Rome", "answer_start": 8.0}]},
            "answers[0].answer_start: expected a whole number, got a number",
        ),
        (
            ANSWER,
            QUESTION | {"answers": {"text": ["a", "b"], "answer_start": [1]}},
            "answers: 1 starts for 2 texts",
        ),
    ],
)
def test_a_fault_names_the_column_and_never_the_text(
    tmp_path: Path, schema: Schema[Any], row: object, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, schema, row)
    assert caught.value.message.startswith(f"{tmp_path / 'en.test.jsonl'}:1: {message}")
    assert "secret" not in str(caught.value)


def test_words_with_tags_become_a_text_with_entities(tmp_path: Path) -> None:
    (row,) = read(tmp_path, TAG, TOKENS)
    assert row.text == "Ada Lovelace saw Rome"
    assert row.tokens == tuple(TOKENS["tokens"])
    assert [(e.label, e.text, e.start, e.end) for e in row.entities] == [
        ("PER", "Ada Lovelace", 0, 12),
        ("LOC", "Rome", 17, 21),
    ]
    assert row.orphans == 0


def test_words_are_found_in_a_text_that_is_given(tmp_path: Path) -> None:
    given = {"text": " Rome's  fall.", "tokens": ["Rome", "'s", "fall", "."]}
    (row,) = read(tmp_path, TAG, given | {"tags": ["B-LOC", "O", "O", "O"]})
    assert row.words == ((1, 5), (5, 7), (9, 13), (13, 14))


def test_a_tag_that_continues_nothing_begins_and_is_counted(tmp_path: Path) -> None:
    (row,) = read(tmp_path, TAG, TOKENS | {"tags": ["I-PER", "I-LOC", "O", "I-LOC"]})
    assert row.tags == ("B-PER", "B-LOC", "O", "B-LOC")
    assert row.orphans == 3


def test_spans_stay_exact_and_their_words_are_never_split(tmp_path: Path) -> None:
    (row,) = read(tmp_path, TAG, SPANS)
    assert [(e.start, e.end, e.text) for e in row.entities] == [(0, 3, "Ada")]
    assert (row.tokens, row.tags) == (("Adas", "Rome"), ("B-PER", "O"))


def test_plain_labels_of_words_make_no_entities(tmp_path: Path) -> None:
    (row,) = read(tmp_path, TAG_WORDS, {"tokens": ["She", "saw"], "tags": ["PRON", "VERB"]})
    assert (row.tags, row.entities) == (("PRON", "VERB"), ())


def test_the_same_question_with_another_answer_is_a_contradiction(tmp_path: Path) -> None:
    path = tmp_path / "en.dev.jsonl"
    rows = [
        QUESTION | {"answers": a, "id": i} for i, a in [("1", [ROME]), ("2", [ROME]), ("3", [])]
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    file = read_file(path, ANSWER)
    assert (len(file.rows), file.duplicates, file.contradictions) == (2, 1, 1)
