"""`POST /v1/answer` over a real socket."""

from __future__ import annotations

import pytest

CONTEXT = "Anna lives in Berlin. 我住在北京."


def asked(question: str = "Where does Anna live?", context: str = CONTEXT) -> dict[str, str]:
    return {"question": question, "context": context}


def test_the_answer_is_the_predictors(zoo, ask):
    pair = ("Where does Anna live?", CONTEXT)
    [expected] = zoo.plane.pool.models["answer"].predictor.answer([pair], must_answer=True)
    [item] = ask("answer", input=asked(), must_answer=True)
    assert item["answer"] == expected.text == CONTEXT[item["start"] : item["end"]]
    assert (item["start"], item["end"]) == (expected.start, expected.end)
    assert item["score"] == pytest.approx(expected.score, abs=1e-6)
    assert item["no_answer_score"] == pytest.approx(expected.no_answer_score, abs=1e-6)


def test_no_answer_is_null_and_no_empty_text(ask):
    items = ask("answer", input=[asked(context=text) for text in ("", CONTEXT, "a", "hello " * 9)])
    nothing = [item for item in items if item["answer"] is None]
    assert nothing
    for item in nothing:
        assert (item["start"], item["end"]) == (0, 0)
    assert all(item["answer"] != "" for item in items)


def test_answers_are_no_longer_than_asked(ask):
    [item] = ask("answer", input=asked(), must_answer=True, max_answer_tokens=1)
    assert " " not in item["answer"].strip()


def test_a_long_context_is_read_in_windows_unless_it_is_said_otherwise(zoo, ask):
    long = asked(context="hello world " * 400)
    [whole] = ask("answer", input=long)
    assert (whole["truncated"], whole["windows"] > 1) == (False, True)
    [cut] = ask("answer", input=long, long="truncate")
    assert (cut["truncated"], cut["tokens"]) == (True, 512)
    refusal = zoo.client.post("/v1/answer", json={"input": long, "long": "error"})
    assert (refusal.status_code, refusal.json()["code"]) == (422, "too_long")
    assert refusal.json()["path"] == "$.input"


def test_an_error_names_the_field_of_the_item(zoo):
    def post(body: bytes):
        headers = {"content-type": "application/json"}
        return zoo.client.post("/v1/answer", content=body, headers=headers)

    reply = post(
        b'{"input": [{"question": "a", "context": "hello"},'
        b'{"question": "\\ud800", "context": "hello"},'
        b'{"question": "a", "context": "\\ud800"}]}'
    )
    good, question, context = reply.json()["items"]
    assert "answer" in good
    assert question["error"]["path"] == "$.input[1].question"
    assert context["error"]["path"] == "$.input[2].context"
    alone = post(b'{"input": {"question": "a", "context": "\\ud800"}}')
    assert alone.json()["path"] == "$.input.context"


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"question": "a"}, "$.input"),
        ({"question": "a", "context": 3}, "$.input.context"),
        ([["a", "b"]], "$.input[0]"),
        ("a", "$.input"),
    ],
)
def test_other_shapes_are_refused_by_their_place(zoo, given, path):
    reply = zoo.client.post("/v1/answer", json={"input": given})
    assert (reply.status_code, reply.json()["path"]) == (422, path)
