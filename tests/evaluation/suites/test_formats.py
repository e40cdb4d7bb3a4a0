"""The same rows, whatever format they come in, and faults placed in each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.errors import DataError, MissingExtraError
from xlmr.evaluation.suites import (
    ANSWER,
    CLASSIFY,
    MULTI_LABEL,
    PLAIN_TEXT,
    RANK,
    SCORE,
    TAG,
    TAG_WORDS,
    Answer,
    Schema,
    read_file,
)

CONLLU = """\
# text = Vámonos al mar.
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
3\ta\ta\tADP\t_\t_\t5\tcase\t_\t_
3.1\tx\t_\t_\t_\t_\t_\t_\t_\t_
4\tel\tel\tDET\t_\t_\t5\tdet\t_\tNER=B-LOC
5\tmar\tmar\tNOUN\t_\t_\t1\tobl\t_\tNER=I-LOC|SpaceAfter=No
6\t.\t.\tPUNCT\t_\t_\t1\tpunct\t_\t_
"""
PARAGRAPH = {
    "context": "She saw Rome.",
    "qas": [
        {"id": "1", "question": "What?", "answers": [{"text": "Rome", "answer_start": 8}]},
        {
            "id": "2",
            "question": "When?",
            "is_impossible": True,
            "answers": [],
            "plausible_answers": [{"text": "saw", "answer_start": 4}],
        },
    ],
}


def put(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8", newline="")
    return path


def fault(path: Path, schema: Schema[Any]) -> str:
    with pytest.raises(DataError) as caught:
        read_file(path, schema)
    return caught.value.message.replace(str(path), path.name)


def squad(tmp_path: Path, *paragraphs: object, **more: object) -> Path:
    data = {"version": "v2.0", "data": [{"title": "t", "paragraphs": list(paragraphs)}]}
    return put(tmp_path / "en.dev.json", json.dumps(data | more))


def test_csv_parses_numbers_and_lists(tmp_path: Path) -> None:
    scores = put(tmp_path / "en.test.csv", "text,score\na,4.5\n")
    assert read_file(scores, SCORE).rows[0].score == 4.5
    labels = put(tmp_path / "en.test.csv", 'text,labels\na,x|y\nb,\nc,"[""p|q""]"\n')
    assert [row.labels for row in read_file(labels, MULTI_LABEL).rows] == [("x", "y"), (), ("p|q",)]
    ranks = put(tmp_path / "en.test.csv", "query,positive,negatives\na,b,\n")
    assert read_file(ranks, RANK).rows[0].negatives == ()


@pytest.mark.parametrize(
    ("schema", "content", "message"),
    [
        (SCORE, "text,score\na,secret\n", "2: score: expected a number, got text"),
        (SCORE, "text,score\na,inf\n", "2: score: expected a number that is finite"),
        (MULTI_LABEL, "text,labels\na,[secret\n", "2: labels: expected a list, got text that is"),
        (RANK.with_columns(query="q"), "query,positive\n", "1: q: expected one column of that"),
    ],
)
def test_csv_faults(tmp_path: Path, schema: Schema[Any], content: str, message: str) -> None:
    path = put(tmp_path / "en.test.csv", content)
    assert fault(path, schema).startswith(f"en.test.csv:{message}")


def test_tsv_knows_no_quotes(tmp_path: Path) -> None:
    path = put(tmp_path / "en.test.tsv", "text\tlabel\r\n\"so, 'he' said\tx\r\n\r\nb\ty\r\n")
    rows = read_file(path).rows
    assert [(row.text, row.label, row.line) for row in rows] == [
        ("\"so, 'he' said", "x", 2),
        ("b", "y", 4),
    ]
    assert fault(put(path, "text\tlabel\na\tb\tc\n"), CLASSIFY) == (
        "en.test.tsv:2: 3 fields under 2 columns"
    )


def test_plain_text_is_a_row_for_each_line(tmp_path: Path) -> None:
    rows = read_file(put(tmp_path / "en.train.txt", "one\r\n \ntwo\u2028half"), PLAIN_TEXT).rows
    assert [(row.text, row.line) for row in rows] == [("one", 1), ("two\u2028half", 3)]


def test_parquet_holds_what_jsonl_holds(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [
        {"tokens": ["Ada", "saw"], "tags": ["B-PER", "O"]},
        {"tokens": ["Rome"], "tags": ["B-LOC"]},
    ]
    path = tmp_path / "en.test.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    jsonl = put(tmp_path / "en.test.jsonl", "\n".join(json.dumps(row) for row in rows))
    assert read_file(path, TAG).rows == read_file(jsonl, TAG).rows
    answers = {"context": "a b", "question": "q", "answers": {"text": ["b"], "answer_start": [2]}}
    parquet.write_table(pyarrow.Table.from_pylist([answers]), path)
    assert read_file(path, ANSWER).rows[0].answers == (Answer("b", 2),)
    parquet.write_table(pyarrow.Table.from_pylist([{"text": "a", "label": 3}]), path)
    assert fault(path, CLASSIFY) == "en.test.parquet:1: label: expected text, got a number"
    path.write_bytes(path.read_bytes()[:-20])
    assert fault(path, CLASSIFY) == "en.test.parquet:1: not Parquet, or damaged"


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xlmr\[data\]'"):
        read_file(put(tmp_path / "en.test.parquet", "PAR1"))


@pytest.mark.parametrize(
    "content",
    [
        "-DOCSTART- -X- O\n\nAda NNP B-PER\n# NN O\n\n\nRome NNP B-LOC\n",
        "# sent_id = 1\nAda\tNNP\tB-PER\n#\tNN\tO\n\n# sent_id = 2\nRome\tNNP\tB-LOC\n",
        "-DOCSTART- -X- O\r\n\r\nAda NNP B-PER\r\n# NN O\r\n\r\n# id = 7\r\nRome NNP B-LOC",
    ],
)
def test_conll_first_column_is_the_word_and_the_last_its_tag(tmp_path: Path, content: str) -> None:
    rows = read_file(put(tmp_path / "en.test.conll", content), TAG).rows
    assert [(row.tokens, row.tags) for row in rows] == [
        (("Ada", "#"), ("B-PER", "O")),
        (("Rome",), ("B-LOC",)),
    ]


def test_conll_columns_can_be_asked_for_by_number(tmp_path: Path) -> None:
    path = put(tmp_path / "en.test.conll", "1\tAda\tB-PER\t-\n2\tsaw\tO\t-\n")
    (row,) = read_file(path, TAG.with_columns(tokens="2", tags="3")).rows
    assert (row.tokens, row.tags) == (("Ada", "saw"), ("B-PER", "O"))
    assert fault(path, TAG) == "en.test.conll:1: tags[0]: expected O, B-… or I-…"


@pytest.mark.parametrize("content", ["Ada B-PER\nsaw\n", "Ada B-PER\nsaw it O\n"])
def test_conll_lines_have_as_many_columns_as_the_first(tmp_path: Path, content: str) -> None:
    path = put(tmp_path / "en.test.conll", content)
    columns = len(content.splitlines()[1].split())
    assert fault(path, TAG) == f"en.test.conll:2: column {columns} is the last, expected 2"
    assert fault(put(path, "Ada\n"), TAG) == "en.test.conll:1: column 1 is the last, expected 2"


def test_conllu_gives_words_text_and_any_kind_of_label(tmp_path: Path) -> None:
    path = put(tmp_path / "es.test.conllu", CONLLU)
    (row,) = read_file(path, TAG.with_columns(tags="NER")).rows
    assert row.text == "Vamos nos a el mar."
    assert [(e.label, e.text) for e in row.entities] == [("LOC", "el mar")]
    (row,) = read_file(path, TAG_WORDS.with_columns(tags="upos")).rows
    assert row.tags == ("VERB", "PRON", "ADP", "DET", "NOUN", "PUNCT")
    assert fault(path, TAG) == "es.test.conllu:1: tags: missing"


def test_conllu_lines_are_checked(tmp_path: Path) -> None:
    path = put(tmp_path / "es.test.conllu", CONLLU.replace("\tPRON\t", "\t"))
    assert fault(path, TAG) == "es.test.conllu:4: column 9 is the last, expected 10"
    put(path, CONLLU.replace("2\tnos", "two\tnos"))
    assert fault(path, TAG) == "es.test.conllu:4: column 1: expected a number, a range or 8.1"


def test_squad_holds_questions_with_and_without_an_answer(tmp_path: Path) -> None:
    rows = read_file(
        squad(tmp_path, PARAGRAPH, PARAGRAPH | {"context": "In Rome."}), ANSWER, faults="skip"
    )
    assert [(row.question, row.answers, row.id, row.line) for row in rows.rows] == [
        ("What?", (Answer("Rome", 8),), "1", 1),
        ("When?", (), "2", 2),
        ("When?", (), "2", 4),
    ]
    assert len(rows.refused) == 1


@pytest.mark.parametrize(
    ("paragraph", "message"),
    [
        ("secret", "data[0].paragraphs[0]: expected an object, got text"),
        ({"context": "a"}, "data[0].paragraphs[0].qas: missing"),
        ({"qas": [{}]}, "data[0].paragraphs[0].context: missing"),
        (
            PARAGRAPH | {"context": "secret Rome is"},
            "data[0].paragraphs[0].qas[0].answers[0].answer_start: the answer does not stand there",
        ),
    ],
)
def test_squad_faults_are_placed_by_their_way(
    tmp_path: Path, paragraph: object, message: str
) -> None:
    said = fault(squad(tmp_path, paragraph), ANSWER)
    assert said.startswith(f"en.dev.json: {message}")
    assert "secret" not in said


def test_squad_must_be_json_of_that_shape(tmp_path: Path) -> None:
    path = put(tmp_path / "en.dev.json", '{"data":\n [,]}')
    assert fault(path, ANSWER) == "en.dev.json:2: not JSON (character 3)"
    assert fault(put(path, "[]"), ANSWER) == "en.dev.json: expected an object, got a list"
    assert fault(put(path, "{}"), ANSWER) == "en.dev.json:1: data: missing"
    assert fault(put(path, ""), ANSWER) == "en.dev.json: no rows"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["data", "paragraphs", "qas", "context", "question", "answers", "text"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.text("\t\n #-1.=|_OBIaé\r\u2028", max_size=60),
    st.sampled_from([".conll", ".conllu", ".tsv", ".csv", ".txt", ".json", ".jsonl"]),
    st.sampled_from([TAG, TAG_WORDS, TAG_WORDS.with_columns(tags="upos"), PLAIN_TEXT]),
)
def test_any_content_is_rows_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, content: str, suffix: str, schema: Schema[Any]
) -> None:
    path = put(tmp_path_factory.mktemp("rows") / f"en.test{suffix}", content)
    rows, said = _rows_or_error(path, schema)
    assert rows or said.startswith(str(path))


@given(json_values)
def test_any_json_is_questions_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    for content, name in [
        (value, "en.dev.json"),
        ({"data": [{"paragraphs": [value]}]}, "en.dev.json"),
        ({"context": "a b", "question": "c", "answers": value}, "en.dev.jsonl"),
        ({"context": "a b", "question": "c", "answers": [value]}, "en.dev.jsonl"),
    ]:
        path = put(folder / name, json.dumps(content))
        rows, said = _rows_or_error(path, ANSWER)
        assert rows or said.startswith(str(path))


def _rows_or_error(path: Path, schema: Schema[Any]) -> tuple[tuple[Any, ...], str]:
    try:
        return read_file(path, schema).rows, ""
    except DataError as error:
        return (), error.message
