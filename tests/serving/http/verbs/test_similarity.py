"""`POST /v1/similarity` over a real socket."""

from __future__ import annotations

import numpy as np
import pytest

JSON = {"content-type": "application/json"}


def similar(zoo, **body):
    return zoo.client.post("/v1/similarity", json={"model": "embed", **body})


def test_it_is_the_cosine_of_the_predictors_vectors(zoo):
    texts = ["where is my parcel", "где посылка", "hello world"]
    vectors = [e.vector for e in zoo.plane.pool.models["embed"].predictor.embed(texts)]
    body = similar(zoo, source=texts[0], sentences=texts[1:]).json()
    unit = [vector / np.linalg.norm(vector) for vector in vectors]
    assert [item["similarity"] for item in body["items"]] == pytest.approx(
        [float(unit[0] @ one) for one in unit[1:]], abs=1e-5
    )


def test_a_sentence_is_as_similar_to_itself_as_can_be(zoo):
    [item] = similar(zoo, source="hello", sentences=["hello"]).json()["items"]
    assert item["similarity"] == pytest.approx(1, abs=1e-6)
    assert item["similarity"] <= 1


def test_the_source_is_accounted_for_like_the_sentences(zoo):
    body = similar(zoo, source="hello " * 600, sentences=["hello", "world"]).json()
    assert body["source"]["truncated"] is True
    ids = [body["source"]["id"], *(item["id"] for item in body["items"])]
    assert ids == [f"{body['id']}-{place}" for place in range(3)]
    tokens = [body["source"]["tokens"], *(item["tokens"] for item in body["items"])]
    assert body["usage"]["tokens"] == sum(tokens) == 512 + 3 + 3


def test_a_broken_sentence_is_its_own_items_error(zoo):
    reply = zoo.client.post(
        "/v1/similarity",
        content=b'{"model": "embed", "source": "a", "sentences": ["b", "\\ud800"]}',
        headers=JSON,
    )
    good, bad = reply.json()["items"]
    assert "similarity" in good
    assert bad["error"]["path"] == "$.sentences[1]"


def test_a_broken_source_refuses_the_request_before_any_work(zoo):
    before = sum(engine.batcher.waiting_tokens for engine in zoo.plane.pool.engines)
    computed = zoo.metrics.value("xlmr_batch_texts_sum")
    reply = zoo.client.post(
        "/v1/similarity",
        content=b'{"model": "embed", "source": "\\ud800", "sentences": ["b"]}',
        headers=JSON,
    )
    assert (reply.status_code, reply.json()["path"]) == (422, "$.source")
    assert zoo.metrics.value("xlmr_batch_texts_sum") == computed
    assert before == 0


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"source": "a", "sentences": []}, "$.sentences"),
        ({"source": ["a"], "sentences": ["b"]}, "$.source"),
        ({"source": "a", "sentences": ["b"], "prompt": "none of these"}, "$.prompt"),
    ],
)
def test_other_shapes_are_refused_by_their_place(zoo, body, path):
    reply = similar(zoo, **body)
    assert (reply.status_code, reply.json()["path"]) == (422, path)
