"""What all verbs have in common, whatever they are asked."""

from __future__ import annotations

import json

import pytest

from xlmr.serving.http.verbs import OPERATIONS

MARK = "Wintergarten"
BROKEN = {
    "classify": {"input": [f"{MARK} \ud800"], "languages": [MARK]},
    "zero-shot": {"input": MARK, "labels": [f"{MARK}\ud800"], "template": f"{MARK} {{}}"},
    "tag": {"input": [[MARK, "\ud800"]]},
    "answer": {"input": {"question": f"{MARK}\ud800", "context": MARK}},
    "fill": {"input": MARK},
    "similarity": {"source": f"{MARK}\ud800", "sentences": [MARK]},
    "tokenize": {"input": f"{MARK}\ud800", "prompt": ""},
    "detokenize": {"input": [10**9]},
    "rerank": {"query": f"{MARK}\ud800", "documents": [MARK]},
    "embeddings": {"input": f"{MARK}\ud800"},
}


def test_every_verb_is_asked_something_broken():
    assert {f"/v1/{verb}" for verb in BROKEN} >= {operation.path for operation in OPERATIONS}


@pytest.mark.parametrize("verb", BROKEN)
def test_a_refusal_never_repeats_a_text(zoo, model_of_task, verb):
    model = model_of_task.get(verb.replace("-", "_"), "embed")
    body = json.dumps({**BROKEN[verb], "model": model}).encode()
    headers = {"content-type": "application/json"}
    reply = zoo.client.post(f"/v1/{verb}", content=body, headers=headers)
    assert reply.status_code == 422
    assert MARK not in reply.text


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.path)
def test_every_item_says_what_became_of_its_text(zoo, model_of_task, operation):
    model = model_of_task[operation.task]
    body = {**operation.example, "model": model}
    answered = zoo.client.post(operation.path, json=body).json()
    ref = zoo.plane.pool.models[model].ref
    assert answered["model"] == {"name": model, "version": ref.version, "digest": ref.digest}
    assert ref.version
    for item in answered["items"]:
        assert item["id"].startswith(f"{answered['id']}-")
        assert item["tokens"] >= 1
        assert item["total_tokens"] >= 1
        assert item["truncated"] is False
        assert item["windows"] == 1
        assert set(item["language"]) == {"code", "confidence"}


def test_the_id_of_a_request_names_its_predictions(zoo):
    reply = zoo.client.post(
        "/v1/tag", json={"input": ["a", "b"]}, headers={"x-request-id": "order-7"}
    )
    assert [item["id"] for item in reply.json()["items"]] == ["order-7-0", "order-7-1"]


def test_a_version_is_asked_by_name(zoo):
    version = zoo.plane.pool.models["tag"].ref.version
    for name in (f"tag@{version}", "tag@live"):
        reply = zoo.client.post("/v1/tag", json={"input": "a", "model": name})
        assert reply.json()["model"]["version"] == version
    unknown = zoo.client.post("/v1/tag", json={"input": "a", "model": "tag@none"})
    assert unknown.status_code == 404
