"""OpenAI's own client against our door."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import numpy as np
import openai
import pytest


@pytest.fixture(scope="module")
def client(house) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{house.address}/v1", api_key="none", max_retries=0) as client:
        yield client


def predictor(house):
    return house.plane.pool.models["sentences"].predictor


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_the_client_gets_the_predictors_vectors(house, client, encoding):
    texts = ["hello world", "где посылка", "你好"]
    options = {"encoding_format": encoding} if encoding else {}
    reply = client.embeddings.create(model="sentences", input=texts, **options)
    expected = predictor(house).embed(texts)
    assert reply.model == "sentences"
    assert [item.index for item in reply.data] == [0, 1, 2]
    for item, embedding in zip(reply.data, expected, strict=True):
        given = item.embedding
        if isinstance(given, str):
            given = np.frombuffer(base64.b64decode(given), "<f4")
        np.testing.assert_allclose(given, embedding.vector, atol=1e-6)
    tokens = sum(embedding.accounting.tokens for embedding in expected)
    assert reply.usage.prompt_tokens == reply.usage.total_tokens == tokens


def test_fewer_dimensions_on_request(client):
    reply = client.embeddings.create(model="sentences", input="hello", dimensions=8)
    assert len(reply.data[0].embedding) == 8


def test_token_ids_stand_for_their_text(house):
    tokenizer = predictor(house).bundle.tokenizer
    ids = list(tokenizer.encode("hello world").ids)
    by_text = house.embed(input="hello world").json()
    assert house.embed(input=ids).json() == by_text
    assert house.embed(input=ids[1:-1]).json() == by_text
    assert (
        house.embed(input=[ids, ids[1:-1]]).json()["data"][1]["embedding"]
        == (by_text["data"][0]["embedding"])
    )


def test_usage_counts_tokens_not_characters(house):
    body = house.embed(input="hello world").json()
    assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


def test_a_cut_text_says_so(house):
    body = house.embed(input=["hello", "hello " * 600]).json()
    assert [item["truncated"] for item in body["data"]] == [False, True]
    assert body["usage"]["prompt_tokens"] == 3 + 512


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"input": []}, 422, "invalid_input", "$.input"),
        ({"input": ["a", 3]}, 422, "invalid_input", "$.input[1]"),
        ({"input": [3, "a"]}, 422, "invalid_input", "$.input[1]"),
        ({"input": [[3], "a"]}, 422, "invalid_input", "$.input[1]"),
        ({"input": [[3, "a"]]}, 422, "invalid_input", "$.input[0][1]"),
        ({"input": [5, 10**9]}, 422, "invalid_input", "$.input[1]"),
        ({"input": [[5], [-1]]}, 422, "invalid_input", "$.input[1][0]"),
        ({"input": "a", "dimensions": 0}, 422, "invalid_input", "$.dimensions"),
        ({"input": "a", "dimensions": 33}, 422, "invalid_input", "$.dimensions"),
        ({"input": "a", "encoding_format": "hex"}, 422, "invalid_input", "$.encoding_format"),
        ({"input": "a", "model": "none"}, 404, "model_not_found", None),
        ({"input": "a", "model": None}, 422, "invalid_input", "$.model"),
    ],
)
def test_refusals_have_openais_shape(house, body, status, code, param):
    reply = house.embed(**body)
    assert reply.status_code == status
    fault = reply.json()["error"]
    assert set(fault) == {"message", "type", "param", "code"}
    assert (fault["code"], fault["param"]) == (code, param)
    assert fault["type"] == "invalid_request_error"


def test_one_bad_text_refuses_the_request_before_any_work(house):
    before = len(house.gated.texts)
    reply = house.client.post(
        "/v1/embeddings",
        content=b'{"model": "sentences", "input": ["a", "\\ud800"]}',
        headers={"content-type": "application/json"},
    )
    assert reply.status_code == 422
    assert reply.json()["error"]["param"] == "$.input[1]"
    assert len(house.gated.texts) == before


def test_the_client_raises_its_own_errors(client):
    with pytest.raises(openai.NotFoundError, match="router, sentences"):
        client.embeddings.create(model="none", input="a")
    with pytest.raises(openai.UnprocessableEntityError):
        client.embeddings.create(model="sentences", input=[])


def test_deep_nesting_is_refused(house):
    body = b'{"input": "a", "x": ' + b"[" * 100_000
    reply = house.client.post(
        "/v1/embeddings", content=body, headers={"content-type": "application/json"}
    )
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "invalid_json"


def test_models_are_listed_with_what_they_can_do(house, client):
    assert [model.id for model in client.models.list()] == ["router", "sentences"]
    card = house.client.get("/v1/models/router").json()
    assert card["tasks"] == ["classify", "embed"]
    assert card["digest"] == house.plane.pool.models["router"].ref.digest
    assert house.client.get("/v1/models/none").status_code == 404


def test_without_a_name_the_only_model_that_can_answers(house_of):
    with house_of("sentences") as house:
        body = house.client.post("/v1/embeddings", json={"input": "hello"}).json()
    assert body["model"] == "sentences"
