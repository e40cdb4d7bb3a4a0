from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from xlmr.errors import DataError
from xlmr.loop.labelling import (
    Answer,
    ToLabel,
    label_studio_interface,
    read_answers,
    write_rows,
)

ROWS = [
    ToLabel(
        prediction="p1",
        language="de",
        text='=1+1, "ü"\u2028zwei\nZeilen',
        fingerprint="00ff",
        reason="doubtful",
        inclusion=None,
        suggested="refund",
        score=0.5,
        model="router@3",
    ),
    ToLabel(
        prediction="=p2",
        language="en",
        text="where",
        fingerprint="",
        reason="random",
        inclusion=0.25,
        model="router@3",
    ),
]
AT = 1_709_596_800_000_000


def test_json_lines_come_back_labelled() -> None:
    written = write_rows(ROWS, "jsonl")
    rows = [json.loads(line) for line in written.split("\n") if line]
    assert [row["inclusion"] for row in rows] == [None, 0.25]
    assert read_answers(written, origin="x") == ([], 2)
    rows[0] |= {"label": "refund", "who": "ada", "at": "2024-03-05"}
    rows[1] |= {"label": "-5"}
    filled = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert read_answers(filled, origin="x") == (
        [
            Answer(prediction="p1", label="refund", who="ada", said_us=AT),
            Answer(prediction="=p2", label="-5"),
        ],
        0,
    )


def test_csv_comes_back_labelled_and_runs_nothing_in_a_spreadsheet() -> None:
    written = write_rows(ROWS, "csv")
    rows = list(csv.DictReader(io.StringIO(written, newline="")))
    assert rows[0]["text"] == "'" + ROWS[0].text
    assert rows[1]["prediction"] == "'=p2"
    rows[1]["label"] = "refund"
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    found = read_answers("\ufeff" + file.getvalue(), origin="x")
    assert found == ([Answer(prediction="=p2", label="refund")], 1)


def test_label_studio_takes_tasks_with_and_without_a_suggestion() -> None:
    first, second = json.loads(write_rows(ROWS, "label-studio"))
    assert first["data"]["text"] == ROWS[0].text
    assert first["data"]["prediction"] == "p1"
    assert first["predictions"] == [
        {
            "model_version": "router@3",
            "score": 0.5,
            "result": [
                {
                    "from_name": "label",
                    "to_name": "text",
                    "type": "choices",
                    "value": {"choices": ["refund"]},
                }
            ],
        }
    ]
    assert "predictions" not in second
    assert second["data"]["inclusion"] == 0.25
    interface = label_studio_interface(['say "no"', "a<b"])
    assert "<Choice value='say \"no\"'/>" in interface
    assert '<Choice value="a&lt;b"/>' in interface


def task(*annotations: dict[str, Any]) -> dict[str, Any]:
    data = {"prediction": "p1", "text": "secret"}
    return {"id": 5, "project": 1, "data": data, "annotations": list(annotations)}


def annotation(*choices: str, **more: Any) -> dict[str, Any]:
    result = {"from_name": "label", "type": "choices", "value": {"choices": list(choices)}}
    said = {"completed_by": 10, "was_cancelled": False, "updated_at": "2024-03-05T00:00:00.000Z"}
    return said | {"result": [result] if choices else []} | more


def test_label_studios_json_is_read_with_every_annotator() -> None:
    tasks = [
        task(annotation("refund"), annotation("other", completed_by={"id": 3, "email": "a@b"})),
        task(annotation("refund", was_cancelled=True)),
        task(annotation()),
        task(),
    ]
    found, empty = read_answers(json.dumps(tasks), origin="x")
    assert found == [
        Answer(prediction="p1", label="refund", who="10", said_us=AT),
        Answer(prediction="p1", label="other", who="a@b", said_us=AT),
    ]
    assert empty == 3


def test_label_studios_smaller_exports_are_read() -> None:
    row = {"id": 5, "prediction": "p1", "label": "refund", "annotator": 10, "updated_at": ""}
    minimal = json.dumps([row, row | {"label": {"choices": ["refund"]}}, row | {"label": None}])
    expected = Answer(prediction="p1", label="refund", who="10")
    assert read_answers(minimal, origin="x") == ([expected, expected], 1)
    table = 'annotator\tid\tlabel\tprediction\n10\t5\t"{""choices"": [""refund""]}"\tp1\n'
    assert read_answers(table, origin="x") == ([expected], 0)
    continental = "annotator;prediction;text;label\r\n10;p1;one, two, three;refund\r\n"
    assert read_answers(continental, origin="x") == ([expected], 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected columns prediction and label"),
        ("text,label\nsecret,x\n", "expected columns"),
        ("id,label\np1,a,b\n", "x:2: more or fewer cells"),
        ('{"id": "p1", "label": "a"}\n{"id": ', "x:2: no JSON"),
        ('{"label": "secret"}', "x:1: prediction: expected the id"),
        ('{"id": "p1", "label": 3}', "x:1: label: expected a text"),
        (json.dumps({"id": "p1", "label": "x" * 1001}), "x:1: too long"),
        (json.dumps({"id": "p" * 201, "label": "x"}), "x:1: too long"),
        ('{"id": "p1", "label": "a", "at": "soon"}', "x:1: expected a time"),
        ("[3]", "x: row 1: expected an object"),
        (json.dumps([task(annotation("a", "b"))]), "x: row 1: 2 labels; one was asked for"),
        (json.dumps([{"annotations": [annotation("a")]}]), "row 1: data: expected an object"),
        (json.dumps([{"annotations": 3, "data": {}}]), "row 1: annotations: expected a list"),
        (json.dumps([task({"result": None})]), "row 1: expected a list"),
    ],
)
def test_what_cannot_be_read_names_the_row_and_never_a_text(content: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_answers(content, origin="x")
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
