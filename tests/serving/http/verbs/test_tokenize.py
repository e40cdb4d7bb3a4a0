"""`POST /v1/tokenize` and `/v1/detokenize` over a real socket: no engine runs for them."""

from __future__ import annotations

import pytest

JSON = {"content-type": "application/json"}


@pytest.fixture
def tokenizer(zoo):
    return zoo.plane.pool.models["embed"].predictor.bundle.tokenizer


def test_tokens_are_shown_with_their_places(ask, tokenizer):
    text = "hello 世界 é!"
    [item] = ask("tokenize", model="embed", input=text)
    encoding = tokenizer.encode(text)
    assert tuple(item["ids"]) == encoding.ids
    assert item["pieces"] == [tokenizer.piece(id) for id in encoding.ids]
    assert [tuple(offset) for offset in item["offsets"]] == list(encoding.offsets)
    assert item["segments"] == [-1, *[0] * (len(encoding.ids) - 2), -1]
    assert item["tokens"] == item["total_tokens"] == len(encoding.ids)
    assert item["truncated"] is False
    assert item["windows"] == 1
    assert set(item["language"]) == {"code", "confidence"}


def test_it_counts_as_a_task_would_read(zoo, ask):
    text = "where is my parcel " * 200
    [tokens] = ask("tokenize", model="classify", input=text)
    [answer] = ask("classify", model="classify", input=text)
    for fact in ("tokens", "total_tokens", "truncated", "language"):
        assert tokens[fact] == answer[fact]


def test_a_pair_has_two_segments(ask):
    [item] = ask("tokenize", model="embed", input=[["hello", "world"]])
    assert item["segments"] == [-1, 0, -1, -1, 1, -1]
    assert item["tokens"] == 6


def test_long_texts_are_cut_refused_or_left_whole(zoo, ask):
    text = " ".join(["hello"] * 511)
    [cut] = ask("tokenize", model="embed", input=text)
    assert (cut["tokens"], cut["total_tokens"], cut["truncated"]) == (512, 513, True)
    [whole] = ask("tokenize", model="embed", input=text, long="whole")
    assert (whole["tokens"], len(whole["ids"]), whole["truncated"]) == (513, 513, False)
    good, bad = ask("tokenize", model="embed", input=["hello", text], long="error")
    assert good["tokens"] == 3
    assert (bad["error"]["code"], bad["error"]["path"]) == ("too_long", "$.input[1]")


def test_ids_become_their_text_again(zoo, ask):
    # The tiny tokenizer has no decoder, so its word mark stays.
    [tokens] = ask("tokenize", model="embed", input="hello world")
    one = ask("detokenize", model="embed", input=tokens["ids"])
    assert [item["text"] for item in one] == ["▁hello ▁world"]
    two = ask("detokenize", model="embed", input=[tokens["ids"], [0, 2]])
    assert [item["text"] for item in two] == ["▁hello ▁world", ""]
    assert [item["tokens"] for item in two] == [4, 2]
    [shown] = ask("detokenize", model="embed", input=tokens["ids"], skip_special=False)
    assert shown["text"] == "<s> ▁hello ▁world </s>"


@pytest.mark.parametrize(
    ("verb", "given", "path"),
    [
        ("tokenize", [], "$.input"),
        ("tokenize", [["a", "b", "c"]], "$.input[0]"),
        ("tokenize", [3], "$.input[0]"),
        ("detokenize", "hello", "$.input"),
        ("detokenize", [], "$.input"),
        ("detokenize", [3, [4]], "$.input[1]"),
        ("detokenize", [3, -1], "$.input[1]"),
        ("detokenize", [10**30], "$.input[0]"),
    ],
)
def test_other_shapes_are_refused_by_their_place(zoo, verb, given, path):
    reply = zoo.client.post(f"/v1/{verb}", json={"model": "embed", "input": given})
    assert (reply.status_code, reply.json()["path"]) == (422, path)


def test_one_bad_text_stands_beside_answers(zoo):
    reply = zoo.client.post(
        "/v1/tokenize",
        content=b'{"model": "embed", "input": ["a", "\\ud800", ["b", "\\ud800"]]}',
        headers=JSON,
    )
    good, bad, pair = reply.json()["items"]
    assert good["ids"]
    assert bad["error"]["path"] == "$.input[1]"
    assert pair["error"]["path"] == "$.input[2][1]"
    ids = zoo.client.post("/v1/detokenize", json={"model": "embed", "input": [[5], [10**9]]})
    assert ids.json()["items"][1]["error"]["path"] == "$.input[1][0]"


def test_where_several_models_are_loaded_one_must_be_named(zoo):
    reply = zoo.client.post("/v1/tokenize", json={"input": "hello"})
    assert (reply.status_code, reply.json()["path"]) == (422, "$.model")
    unknown = zoo.client.post("/v1/tokenize", json={"input": "hello", "model": "none"})
    assert unknown.status_code == 404


def test_a_prompt_that_there_is_not_is_refused(zoo):
    reply = zoo.client.post(
        "/v1/tokenize", json={"input": "hello", "model": "embed", "prompt": "none"}
    )
    assert (reply.status_code, reply.json()["path"]) == (422, "$.prompt")


def test_no_engine_runs_but_the_request_is_counted_and_logged(house_of):
    with house_of("sentences") as house:
        reply = house.client.post("/v1/tokenize", json={"input": ["hello world", "где посылка"]})
        assert reply.json()["usage"] == {"tokens": 0}
        assert house.gated.texts == []
        [record] = house.log.records
        assert (record.task, record.code, record.items) == ("tokenize", "ok", 2)
        assert record.tokens == 0
        house.client.post("/v1/detokenize", json={"input": [10**9]})
        assert (house.log.records[1].task, house.log.records[1].code) == (
            "detokenize",
            "invalid_input",
        )
        assert house.plane.idle


def test_it_works_while_the_engine_is_busy_and_not_once_the_server_goes_down(house_of):
    with house_of("sentences") as house:
        house.gated.gate.clear()
        assert house.client.post("/v1/tokenize", json={"input": "hello"}).status_code == 200
        house.gated.gate.set()
        house.plane.drain()
        assert house.client.post("/v1/tokenize", json={"input": "hello"}).status_code == 503
