"""OpenAI's own client against our door."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest

from xlmr.errors import (
    EngineError,
    ForbiddenError,
    HeaderError,
    InputError,
    ModelNotFoundError,
    OverloadedError,
    QuotaError,
    UnauthenticatedError,
    UnavailableError,
)
from xlmr.serving.http.problems import openai_problem


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


def vectors(house, given) -> list[list[float]]:
    return [item["embedding"] for item in house.embed(input=given).json()["data"]]


def test_fewer_dimensions_on_request(client):
    reply = client.embeddings.create(model="sentences", input="hello", dimensions=8)
    assert len(reply.data[0].embedding) == 8


def test_token_ids_stand_for_their_text(house):
    tokenizer = predictor(house).bundle.tokenizer
    ids = list(tokenizer.encode("hello world").ids)
    [by_text] = vectors(house, "hello world")
    assert vectors(house, ids) == [by_text]
    assert vectors(house, ids[1:-1]) == [by_text]
    assert vectors(house, [ids, ids[1:-1]]) == [by_text, by_text]


def test_usage_counts_tokens_not_characters(house):
    body = house.embed(input="hello world").json()
    assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


def test_a_cut_text_says_so(house):
    body = house.embed(input=["hello", "hello " * 600]).json()
    assert [item["truncated"] for item in body["data"]] == [False, True]
    assert [item["total_tokens"] for item in body["data"]] == [3, 602]
    assert [item["id"] for item in body["data"]] == [f"{body['id']}-0", f"{body['id']}-1"]
    assert body["model_digest"] == house.plane.pool.models["sentences"].ref.digest
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


def test_the_client_takes_token_ids_and_lists_of_them(house, client):
    tokenizer = predictor(house).bundle.tokenizer
    ids = [list(tokenizer.encode(text).ids) for text in ("hello world", "你好")]
    texts = client.embeddings.create(model="sentences", input=["hello world", "你好"])
    both = client.embeddings.create(model="sentences", input=ids)
    one = client.embeddings.create(model="sentences", input=ids[0])
    assert [item.embedding for item in both.data] == [item.embedding for item in texts.data]
    assert one.data[0].embedding == texts.data[0].embedding
    assert both.usage == texts.usage


def test_the_client_gets_shortened_vectors_as_the_predictor_makes_them(house, client):
    reply = client.embeddings.create(model="sentences", input="hello", dimensions=8)
    [expected] = predictor(house).embed(["hello"], dimensions=8)
    np.testing.assert_allclose(reply.data[0].embedding, expected.vector, atol=1e-6)
    longest = client.embeddings.create(model="sentences", input="hello", dimensions=32)
    assert len(longest.data[0].embedding) == 32


def test_long_texts_can_be_read_whole_or_refused(house, client):
    text = "hello " * 600
    whole = client.embeddings.create(model="sentences", input=text, extra_body={"long": "window"})
    [expected] = predictor(house).embed([text], long="window")
    np.testing.assert_allclose(whole.data[0].embedding, expected.vector, atol=1e-6)
    assert whole.usage.prompt_tokens == expected.accounting.tokens > 600
    with pytest.raises(openai.UnprocessableEntityError) as refusal:
        client.embeddings.create(model="sentences", input=text, extra_body={"long": "error"})
    assert (refusal.value.code, refusal.value.param) == ("too_long", "$.input")


@pytest.mark.parametrize(
    ("error", "raised", "kind"),
    [
        (HeaderError("no", path="x-request-priority"), openai.BadRequestError, "invalid_request"),
        (UnauthenticatedError("no"), openai.AuthenticationError, "authentication"),
        (ForbiddenError("no"), openai.PermissionDeniedError, "permission"),
        (ModelNotFoundError("no"), openai.NotFoundError, "invalid_request"),
        (InputError("no"), openai.UnprocessableEntityError, "invalid_request"),
        (QuotaError("no", retry_after_s=3), openai.RateLimitError, "rate_limit"),
        (OverloadedError("no", retry_after_s=3), openai.RateLimitError, "rate_limit"),
        (EngineError("no"), openai.InternalServerError, "server"),
        (UnavailableError("no", retry_after_s=3), openai.InternalServerError, "server"),
    ],
    ids=lambda value: getattr(value, "code", None),
)
def test_every_error_is_the_exception_that_the_client_has_for_it(error, raised, kind):
    reply = openai_problem(error, "r1")

    def answer(request: httpx.Request) -> httpx.Response:
        headers = dict(line.split(": ") for line in reply.head.decode().splitlines())
        content_type = {"content-type": reply.media_type}
        return httpx.Response(reply.status, content=reply.body, headers=headers | content_type)

    http_client = httpx.Client(transport=httpx.MockTransport(answer))
    with (
        openai.OpenAI(
            base_url="http://server/v1", api_key="k", max_retries=0, http_client=http_client
        ) as client,
        pytest.raises(raised) as caught,
    ):
        client.embeddings.create(model="m", input="a")
    assert caught.value.status_code == reply.status
    assert caught.value.code == error.code
    assert caught.value.type == f"{kind}_error"
    waits = caught.value.response.headers.get("retry-after")
    assert (waits == "3") == isinstance(error, UnavailableError)


def test_the_client_retries_what_is_only_busy(house_of, monkeypatch):
    """It reads `Retry-After`, so it comes back on its own."""
    with house_of("sentences") as house:
        take, refusals = house.plane.pool.take, iter([True])

        def once_busy(name, task):
            if next(refusals, False):
                raise UnavailableError("busy", retry_after_s=0.1)
            return take(name, task)

        monkeypatch.setattr(house.plane.pool, "take", once_busy)
        with openai.OpenAI(base_url=f"{house.address}/v1", api_key="none", max_retries=1) as client:
            reply = client.embeddings.create(model="sentences", input="hello")
        assert [record.code for record in house.log.records] == ["unavailable", "ok"]
    assert len(reply.data[0].embedding) == 32


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


def test_without_a_name_the_only_model_that_can_answers(house_of):
    with house_of("sentences") as house:
        body = house.client.post("/v1/embeddings", json={"input": "hello"}).json()
    assert body["model"] == "sentences"
