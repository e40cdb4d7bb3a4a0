"""What the server says of itself is what it does."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from xlmr.serving.http.app import OPERATIONS
from xlmr.serving.http.endpoint import Inference

NAMED = [o for o in OPERATIONS if o.request and "model" in o.request.__struct_fields__]


@pytest.fixture(scope="module")
def description(house) -> dict:
    return house.client.get("/openapi.json").json()


def described(description, operation) -> dict:
    return description["paths"][operation.path][operation.method.lower()]


def test_every_operation_is_described(description):
    for operation in OPERATIONS:
        found = described(description, operation)
        assert found["summary"]
        assert "200" in found["responses"]
        assert "default" not in found["responses"]


def test_operations_have_names_of_their_own(description):
    names = [
        o["operationId"] for methods in description["paths"].values() for o in methods.values()
    ]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)


def test_every_reference_leads_somewhere(description):
    names = re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(description))
    assert names
    assert set(names) <= set(description["components"]["schemas"])


def test_every_error_an_inference_can_end_in_is_described(description):
    for operation in NAMED:
        if operation.statuses is not None:
            continue
        responses = described(description, operation)["responses"]
        for status in ("400", "401", "403", "404", "413", "415", "422", "429", "500", "503"):
            assert responses[status]["description"], (operation.path, status)
        for status in ("429", "503"):
            assert "retry-after" in responses[status]["headers"]
        assert "www-authenticate" in responses["401"]["headers"]


@pytest.mark.parametrize("operation", NAMED, ids=lambda o: o.path)
def test_the_examples_work(zoo, model_of_task, operation):
    body = {**operation.example, "model": model_of_task[operation.task]}
    msgspec.convert(body, operation.request)
    reply = zoo.client.request(operation.method, operation.path, json=body)
    assert reply.status_code == 200, reply.text
    answered = msgspec.json.decode(reply.content, type=operation.response)
    assert fields_of(json.loads(msgspec.json.encode(answered))) <= fields_of(reply.json())


@pytest.mark.parametrize(
    "operation", [o for o in OPERATIONS if o.reply is not None], ids=lambda o: o.path
)
def test_the_replies_shown_are_replies(operation):
    shown = json.loads(json.dumps(operation.reply))
    again = json.loads(msgspec.json.encode(msgspec.convert(shown, operation.response)))
    # Nothing is shown that the type does not know, and nothing left out that it always has.
    assert fields_of(shown) == fields_of(again)


def fields_of(value, path="$") -> set[str]:
    """The paths of all fields, items of a list taken together."""
    if isinstance(value, dict):
        inner = [fields_of(one, f"{path}.{name}") for name, one in value.items()]
        return {f"{path}.{name}" for name in value}.union(*inner)
    if isinstance(value, list):
        return set().union(*(fields_of(one, f"{path}[]") for one in value))
    return set()


def test_every_inference_shows_a_request_and_a_reply():
    for operation in NAMED:
        assert isinstance(operation, Inference)
        assert operation.example
        assert operation.reply


def test_the_pages_are_as_described(house):
    for operation in OPERATIONS:
        if operation.response and operation.method == "GET" and "{" not in operation.path:
            reply = house.client.get(operation.path)
            msgspec.json.decode(reply.content, type=operation.response)


def test_the_page_needs_nothing_from_elsewhere(house):
    page = house.client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<script" not in page.text
    assert not re.search(r'(?:src|href)="https?:', page.text)
    assert "curl http://127.0.0.1:8080/v1/classify" in page.text
    for operation in OPERATIONS:
        assert operation.path in page.text
    for anchor in re.findall(r'href="#(\w+)"', page.text):
        assert f'id="{anchor}"' in page.text
