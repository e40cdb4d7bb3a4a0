"""What managed endpoints ask of a container, over a real socket."""

from __future__ import annotations

import numpy as np
import pytest


def invoke(house, **body):
    reply = house.client.post("/invocations", json=body)
    assert reply.status_code == 200, reply.text
    return reply


def problem(reply, status, code):
    assert reply.status_code == status, reply.text
    assert reply.json()["code"] == code
    return reply.json()


def predictor(house, name):
    return house.plane.pool.models[name].predictor


def test_ping_falls_with_readiness(house_of):
    with house_of("classify") as house:
        reply = house.client.get("/ping")
        assert (reply.status_code, reply.content) == (200, b"")
        house.plane.drain()
        problem(house.client.get("/ping"), 503, "unhealthy")
        problem(house.client.post("/invocations", json={"inputs": "a"}), 503, "unavailable")


def test_a_lone_model_is_asked_for_what_it_is_for(house_of):
    with house_of("classify") as house:
        [expected] = predictor(house, "classify").classify(["hello"])
        shown = [
            {"label": label.label, "score": pytest.approx(label.score, abs=1e-5)}
            for label in expected.labels
        ]
        assert invoke(house, inputs="hello").json() == shown
        assert invoke(house, inputs=["hello", "hello"]).json() == [shown, shown]
        [first, second] = invoke(house, instances=["hello", {"text": "hello"}]).json()[
            "predictions"
        ]
        assert first["labels"] == second["labels"] == shown
        assert first["truncated"] is False
    with house_of("sentences") as house:
        [expected] = predictor(house, "sentences").embed(["hello"])
        assert np.allclose(invoke(house, inputs="hello").json(), [expected.vector], atol=1e-5)
        [item] = invoke(house, instances=["hello"]).json()["predictions"]
        assert np.allclose(item["embedding"], expected.vector, atol=1e-5)


def test_one_bad_instance_does_not_cost_its_neighbours_their_answers(house_of):
    with house_of("classify") as house:
        body = b'{"instances": ["hello", "\\ud800"]}'
        headers = {"content-type": "application/json"}
        reply = house.client.post("/invocations", content=body, headers=headers)
        first, bad = reply.json()["predictions"]
        assert first["labels"]
        assert bad["error"]["path"] == "$.instances[1]"
        reply = house.client.post("/invocations", content=body.replace(b"instances", b"inputs"))
        assert reply.status_code == 415
        reply = house.client.post(
            "/invocations", content=body.replace(b"instances", b"inputs"), headers=headers
        )
        assert problem(reply, 422, "invalid_input")["path"] == "$.inputs[1]"


def test_pipelines_shapes(zoo):
    def ask(task, inputs, **parameters):
        said = {"task": task, "model": task} | parameters
        return invoke(zoo, inputs=inputs, parameters=said).json()

    span = predictor(zoo, "answer").answer([("where", "in berlin")], must_answer=True)[0]
    pair = {"question": "where", "context": "in berlin"}
    found = ask("answer", pair, must_answer=True)
    assert (found["answer"], found["start"], found["end"]) == (span.text, span.start, span.end)

    entities = predictor(zoo, "tag").tag(["anna lives in berlin"])[0].entities
    tagged = ask("tag", "anna lives in berlin")
    assert [(t["entity_group"], t["word"]) for t in tagged] == [(e.label, e.text) for e in entities]

    ranks = ask("rerank", {"query": "where", "texts": ["paris", "berlin"]})
    expected = predictor(zoo, "rerank").rerank("where", ["paris", "berlin"])
    assert [rank["index"] for rank in ranks] == [one.index for one in expected]

    assert len(ask("fill", "hello <mask>", top_k=3)) == 3
    assert len(ask("fill", "<mask> hello <mask>", top_k=3)) == 2

    chosen = ask("zero_shot", "hello", candidate_labels=["refund", "delivery"])
    assert chosen["sequence"] == "hello"
    assert sorted(chosen["labels"]) == ["delivery", "refund"]

    pairs = ask("classify", {"text": "hello", "text_pair": "world"})
    same = ask("classify", [["hello", "world"]])[0]
    [expected] = predictor(zoo, "classify").classify([("hello", "world")])
    assert pairs == same
    assert pairs[0]["score"] == pytest.approx(expected.score, abs=1e-5)


def test_every_task_describes_its_predictions(zoo):
    for task, instance, parameters, field in (
        ("tag", "anna lives in berlin", {}, "entities"),
        ("answer", {"question": "where", "context": "in berlin"}, {}, "no_answer_score"),
        ("fill", "hello <mask>", {}, "masks"),
        ("zero_shot", "hello", {"labels": ["refund"]}, "labels"),
        ("rerank", {"inputs": "berlin"}, {"query": "where"}, "score"),
    ):
        said = {"task": task, "model": task} | parameters
        [item] = invoke(zoo, instances=[instance], parameters=said).json()["predictions"]
        assert field in item
        assert item["tokens"] > 0


def test_what_was_cut_is_named(house_of):
    with house_of("sentences") as house:
        reply = invoke(house, inputs=["hello", "hello " * 600])
        assert reply.headers["x-truncated"] == "1"
        long = {"inputs": ["hello", "hello " * 600], "parameters": {"long": "error"}}
        refused = problem(house.client.post("/invocations", json=long), 422, "too_long")
        assert refused["path"] == "$.inputs[1]"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "$"),
        ({"inputs": "a", "instances": ["a"]}, "$"),
        ({"instances": "a"}, "$.instances"),
        ({"instances": []}, "$.instances"),
        ({"inputs": None}, "$.inputs"),
        ({"inputs": [["a", "b", "c"]]}, "$.inputs[0]"),
        ({"inputs": {"texts": "a"}}, "$.inputs.texts"),
        ({"instances": ["a", {"text": 3}]}, "$.instances[1].text"),
        ({"instances": ["a", {}]}, "$.instances[1]"),
        ({"inputs": "a", "parameters": {"top": "2"}}, "$.parameters.top"),
        ({"inputs": "a", "parameters": {"tops": 2}}, "$.parameters"),
        ({"inputs": "a", "parameters": {"task": 3}}, "$.parameters.task"),
    ],
)
def test_what_cannot_be_asked(zoo, body, path):
    body = body | {"model": "classify"}
    reply = zoo.client.post("/invocations", json=body)
    assert problem(reply, 422, "invalid_input")["path"] == path


def test_models_and_tasks_that_are_not_there(zoo):
    body = {"inputs": "a"}
    problem(zoo.client.post("/invocations", json=body | {"model": "x"}), 404, "model_not_found")
    said = {"parameters": {"task": "tag", "model": "embed"}}
    problem(zoo.client.post("/invocations", json=body | said), 400, "task_not_supported")
