"""Labelled rows are read strictly, and a fault is named by file, line and column."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.errors import DataError
from xlmr.evaluation.suites import SUFFIXES, Row, by_language, read_file, read_split

ROW = {"text": "Where is it?", "label": "delivery", "language": "en"}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def fault(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_file(path)
    return caught.value.message.replace(str(path), path.name)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW | {"label": None}, "label: expected text, got null"),
        (ROW | {"text": 7}, "text: expected text, got a number"),
        (ROW | {"text": True}, "text: expected text, got true or false"),
        (ROW | {"text": ["secret"]}, "text: expected text, got a list"),
        (ROW | {"text": " \t\n"}, "text: expected text, got nothing but blanks"),
        (ROW | {"label": ""}, "label: expected text, got nothing but blanks"),
        (ROW | {"text": "secret \ud800"}, "text: half a surrogate pair is not a character"),
        (ROW | {"language": "secret stuff"}, "language: expected a code like en or zh-Hant"),
        ({"text": "secret", "language": "en"}, "label: missing"),
        ({"text": "secret", "label": "x"}, "language: missing"),
        (["secret"], "expected an object, got a list"),
        (None, "expected an object, got null"),
    ],
)
def test_a_fault_names_file_line_and_column_but_no_text(
    tmp_path: Path, row: object, message: str
) -> None:
    path = write(tmp_path / "data.jsonl", ROW, row)
    assert fault(path) == "data.jsonl:2: " + message


def test_broken_json_is_placed_without_quoting_it(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(ROW) + '\n\n{"text": "secret\n', encoding="utf-8")
    assert fault(path) == "data.jsonl:3: not JSON (character 10)"


def test_bytes_that_are_not_utf8_are_placed(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(json.dumps(ROW).encode() + b'\n{"text": "caf\xe9"}\n')
    assert fault(path) == "data.jsonl:2: not UTF-8"


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("[" * 100_000, encoding="utf-8")
    assert fault(path).startswith("data.jsonl:1: ")


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(content, encoding="utf-8")
    assert fault(path) == "data.jsonl: no rows"


def test_other_kinds_of_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.xlsx"
    path.write_bytes(b"PK")
    assert fault(path).startswith("data.xlsx: expected a file that ends in .jsonl, .csv,")


def test_repeated_rows_are_dropped_and_contradictions_kept(tmp_path: Path) -> None:
    other = ROW | {"label": "refund"}
    file = read_file(write(tmp_path / "data.jsonl", ROW, ROW, other, ROW | {"language": "de"}))
    assert [(row.line, row.label) for row in file.rows] == [
        (1, "delivery"),
        (3, "refund"),
        (4, "delivery"),
    ]
    assert (file.duplicates, file.contradictions) == (1, 1)


def test_rows_at_fault_are_left_out_and_reported_where_that_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", ROW, ROW | {"label": None}, ROW | {"language": "de"})
    file = read_file(path, faults="skip")
    assert [row.line for row in file.rows] == [1, 3]
    assert file.refused == (f"{path}:2: label: expected text, got null",)
    with pytest.raises(DataError, match="no rows"):
        read_file(write(path, ROW | {"text": ""}), faults="skip")


@pytest.mark.parametrize("key", ["pt-BR", "spa", "arb_Arab", "ell_monotonic", "deu_1996"])
def test_a_language_key_stays_as_the_file_name_gives_it(tmp_path: Path, key: str) -> None:
    write(tmp_path / f"{key}.test.jsonl", {"text": "a", "label": "b"})
    (file,) = read_split(tmp_path, "test", languages=[key])
    assert [row.language for row in file.rows] == [key]


def test_the_digest_is_of_the_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", ROW)
    assert read_file(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_language_may_come_from_the_file_name(tmp_path: Path) -> None:
    row = {"text": "你好", "label": " other "}
    file = read_file(write(tmp_path / "zh-Hant.test.jsonl", row))
    assert (file.rows[0].language, file.rows[0].label) == ("zh-Hant", "other")


def test_csv_quotes_line_breaks_and_reports_the_line_a_row_starts_on(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    text = '\ufefflabel,text,language,note\r\nother,"two\nlines, ""quoted""",en,x\r\n,b,en,\r\n'
    path.write_text(text, encoding="utf-8", newline="")
    assert fault(path) == "data.csv:4: label: expected text, got nothing but blanks"
    path.write_text(text.replace(",b,en", "other,b,de"), encoding="utf-8", newline="")
    rows = read_file(path).rows
    assert [(row.text, row.language, row.line) for row in rows] == [
        ('two\nlines, "quoted"', "en", 2),
        ("b", "de", 4),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "data.csv: no rows"),
        ("text,label,language\n", "data.csv: no rows"),
        ("text;label;language\n", "data.csv:1: text: expected one column of that name, got 0"),
        ("text,label,label\n", "data.csv:1: label: expected one column of that name, got 2"),
        ("text,label,language\nsecret\n", "data.csv:2: label: missing"),
        ("text,label\nsecret,a,en\n", "data.csv:2: 3 fields under 2 columns"),
        ('text,label,language\n"secret"x,a,en\n', "data.csv:2: not CSV (',' expected after '\"')"),
    ],
)
def test_csv_faults(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "data.csv"
    path.write_text(content, encoding="utf-8")
    assert fault(path) == message


def test_a_folder_gives_one_file_for_each_language_of_a_split(tmp_path: Path) -> None:
    for name in ("fr.test.jsonl", "de.test.jsonl", "de.train.jsonl"):
        write(tmp_path / name, ROW | {"language": name[:2]})
    write(tmp_path / "notes.jsonl", {})
    assert [f.path.name for f in read_split(tmp_path, "test")] == ["de.test.jsonl", "fr.test.jsonl"]
    only = read_split(tmp_path, "test", languages=["fr"])
    assert [f.path.name for f in only] == ["fr.test.jsonl"]


def test_a_file_in_a_folder_holds_the_language_it_is_named_after(tmp_path: Path) -> None:
    write(tmp_path / "de.test.jsonl", ROW)
    with pytest.raises(DataError, match=r"de\.test\.jsonl:1: language: the file name promises de"):
        read_split(tmp_path, "test")


@pytest.mark.parametrize("languages", [(), ("en",)])
def test_nothing_to_read_is_an_error(tmp_path: Path, languages: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read_split(tmp_path / "absent", "test", languages=languages)
    with pytest.raises(DataError, match="no rows for test"):
        read_split(tmp_path, "test", languages=languages)


def test_one_file_can_be_narrowed_to_languages(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", ROW, ROW | {"language": "de"})
    (file,) = read_split(path, "train", languages=["de"])
    assert [row.language for row in file.rows] == ["de"]
    with pytest.raises(DataError, match="no rows for train in fr"):
        read_split(path, "train", languages=["fr"])


def test_rows_are_grouped_by_language_in_order(tmp_path: Path) -> None:
    rows = [ROW | {"language": code, "text": str(i)} for i, code in enumerate(["fr", "de", "fr"])]
    grouped = by_language([read_file(write(tmp_path / "data.jsonl", *rows))])
    assert {code: [r.text for r in group] for code, group in grouped.items()} == {
        "de": ["1"],
        "fr": ["0", "2"],
    }
    assert list(grouped) == ["de", "fr"]


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(st.lists(texts, min_size=1, max_size=5, unique=True))
def test_whatever_the_text_jsonl_brings_it_back(
    tmp_path_factory: pytest.TempPathFactory, said: list[str]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "en.test.jsonl"
    lines = [json.dumps({"text": t, "label": "a"}, ensure_ascii=False) for t in said]
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    assert [row.text for row in read_file(path).rows] == said


@given(st.lists(texts, min_size=1, max_size=5, unique=True))
def test_whatever_the_text_csv_brings_it_back(
    tmp_path_factory: pytest.TempPathFactory, said: list[str]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "en.test.csv"
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([("text", "label"), *((t, "a") for t in said)])
    path.write_text(buffer.getvalue(), encoding="utf-8", newline="")
    assert [row.text for row in read_file(path).rows] == said


NAMES = [f"en.test{suffix}" for suffix in SUFFIXES]


@given(st.binary(max_size=200), st.sampled_from(NAMES))
def test_any_bytes_are_rows_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    path = tmp_path_factory.mktemp("rows") / name
    path.write_bytes(content)
    said = ""
    rows: tuple[Row, ...] = ()
    try:
        rows = read_file(path).rows
    except DataError as error:
        said = error.message
    assert rows or said.startswith(str(path))
