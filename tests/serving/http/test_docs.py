from __future__ import annotations

import json
import re

import msgspec
import pytest

from xlmr.serving.http.app import OPERATIONS


@pytest.fixture(scope="module")
def description(house) -> dict:
    return house.client.get("/openapi.json").json()


def test_every_operation_is_described(description):
    for operation in OPERATIONS:
        described = description["paths"][operation.path][operation.method.lower()]
        assert described["summary"]
        assert "200" in described["responses"]


def test_every_reference_leads_somewhere(description):
    names = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(description))
    assert names
    assert set(names) <= set(description["components"]["schemas"])


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.request], ids=lambda o: o.path)
def test_the_examples_work(house, operation):
    msgspec.convert(operation.example, operation.request)
    body = operation.example | {"model": "router"}
    assert house.client.request(operation.method, operation.path, json=body).status_code == 200


def test_the_replies_are_as_described(house):
    for operation, body in (
        (o, (o.example or {}) | {"model": "router"})
        for o in OPERATIONS
        if o.response and "{" not in o.path
    ):
        content = {"json": body} if operation.method == "POST" else {}
        reply = house.client.request(operation.method, operation.path, **content)
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
