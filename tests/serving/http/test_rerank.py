"""`POST /v1/rerank` over a real socket, in the shape that Cohere's and Jina's clients know."""

from __future__ import annotations

import pytest

JSON = {"content-type": "application/json"}
DOCUMENTS = ["hello world", "my parcel has not arrived", "paris", "refund the money"]
QUERY = "where is my parcel"


def rerank(zoo, **body):
    return zoo.client.post(
        "/v1/rerank", json={"model": "rerank", "query": QUERY, "documents": DOCUMENTS, **body}
    )


def test_the_order_is_the_predictors(zoo):
    expected = zoo.plane.pool.models["rerank"].predictor.rerank(QUERY, DOCUMENTS)
    body = rerank(zoo).json()
    assert [one["index"] for one in body["results"]] == [one.index for one in expected]
    assert [one["relevance_score"] for one in body["results"]] == pytest.approx(
        [one.score for one in expected], abs=1e-6
    )
    tokens = {one.index: one.accounting.tokens for one in expected}
    assert {one["index"]: one["tokens"] for one in body["results"]} == tokens


def test_it_has_the_shape_that_clients_know(zoo):
    body = rerank(zoo).json()
    assert body["id"]
    assert body["object"] == "list"
    assert body["model"] == "rerank"
    total = sum(one["tokens"] for one in body["results"])
    assert body["usage"] == {"prompt_tokens": total, "total_tokens": total}
    assert "errors" not in body
    for one in body["results"]:
        assert 0 <= one["relevance_score"] <= 1
        assert one["id"] == f"{body['id']}-{one['index']}"
        assert "document" not in one


def test_where_newer_clients_ask_the_same_is_answered(zoo):
    """Cohere's second version of the call: no other fields than these."""
    body = {"model": "rerank", "query": QUERY, "documents": DOCUMENTS, "max_tokens_per_doc": 4096}
    reply = zoo.client.post("/v2/rerank", json=body)
    assert reply.status_code == 200, reply.text
    assert reply.json()["results"] == [
        one | {"id": f"{reply.json()['id']}-{one['index']}"}
        for one in rerank(zoo).json()["results"]
    ]


def test_only_the_first_are_given_where_fewer_are_asked_for(zoo):
    everything = rerank(zoo).json()["results"]
    few = rerank(zoo, top_n=2).json()
    assert [one["index"] for one in few["results"]] == [one["index"] for one in everything[:2]]
    assert few["usage"]["total_tokens"] > sum(one["tokens"] for one in few["results"])
    assert len(rerank(zoo, top_n=99).json()["results"]) == len(DOCUMENTS)


def test_documents_come_back_on_request_and_may_come_as_objects(zoo):
    objects = [{"text": text, "title": "ignored"} for text in DOCUMENTS]
    body = rerank(zoo, documents=objects, return_documents=True).json()
    for one in body["results"]:
        assert one["document"] == {"text": DOCUMENTS[one["index"]]}
    plain = rerank(zoo).json()
    assert [one["index"] for one in plain["results"]] == [one["index"] for one in body["results"]]


def test_each_result_has_the_language_of_its_own_document(zoo):
    documents = ["где посылка и где мои деньги", "where is my parcel please", "我住在北京"]
    body = rerank(zoo, documents=documents).json()
    found = {one["index"]: one["language"]["code"] for one in body["results"]}
    assert found == {0: "ru", 1: "en", 2: "zh"}


def test_a_cut_document_says_so(zoo):
    body = rerank(zoo, documents=["hello " * 600, "hello"]).json()
    assert {one["index"]: one["truncated"] for one in body["results"]} == {0: True, 1: False}
    whole = rerank(zoo, documents=["hello " * 600], long="window").json()["results"][0]
    assert whole["truncated"] is False
    assert whole["windows"] > 1


def test_a_broken_document_is_named_beside_the_results_of_the_others(zoo):
    body = zoo.client.post(
        "/v1/rerank",
        content=b'{"model": "rerank", "query": "a", "documents": ["b", "\\ud800", "c"]}',
        headers=JSON,
    ).json()
    assert sorted(one["index"] for one in body["results"]) == [0, 2]
    [fault] = body["errors"]
    assert (fault["index"], fault["error"]["path"]) == (1, "$.documents[1]")
    assert fault["id"] == f"{body['id']}-1"


def test_a_broken_query_is_the_requests_fault(zoo):
    reply = zoo.client.post(
        "/v1/rerank",
        content=b'{"model": "rerank", "query": "\\ud800", "documents": ["b", "c"]}',
        headers=JSON,
    )
    assert reply.status_code == 422
    assert reply.json()["error"]["param"] == "$.query"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"documents": []}, 422, "$.documents"),
        ({"documents": ["a", 3]}, 422, "$.documents[1]"),
        ({"documents": [{"body": "a"}]}, 422, "$.documents[0]"),
        ({"query": 3}, 422, "$.query"),
        ({"top_n": 0}, 422, "$.top_n"),
        ({"model": "none"}, 404, None),
        ({"model": "embed"}, 400, None),
    ],
)
def test_refusals_have_openais_shape(zoo, body, status, param):
    reply = rerank(zoo, **body)
    assert reply.status_code == status
    assert reply.json()["error"]["param"] == param


def test_a_query_counts_once_for_each_document_before_any_work(zoo):
    # 150 documents of one word, but 150 readings of a query of 250,000 characters.
    reply = rerank(zoo, query="a" * 250_000, documents=["b"] * 150)
    assert reply.status_code == 422
    assert reply.json()["error"]["param"] == "$.documents"
    assert "37500150 characters" in reply.json()["error"]["message"]
