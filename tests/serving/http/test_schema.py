"""schemathesis asks everything the description allows, and much that it does not."""

from __future__ import annotations

import re

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis import checks
from schemathesis.generation import GenerationMode

from xlmr.serving.http.app import OPERATIONS

# Half a minute for all operations together.
EXAMPLES = 12
CHECKS = (
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
)


@pytest.fixture(scope="module")
def schema(zoo):
    return schemathesis.openapi.from_url(f"{zoo.address}/openapi.json")


# Without a body or a parameter nothing about a request can be wrong.
ASKED = [
    pytest.param(operation, mode, id=f"{mode.value} {operation.method} {operation.path}")
    for operation in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or operation.request is not None
]


def place(case, operation, model_of_task) -> None:
    """Has a case name a model that there is: unknown names would all end in the same refusal."""
    model = model_of_task.get(getattr(operation, "task", None), "classify")
    known = {"model": model, "version": "live"}
    if case.path_parameters:
        case.path_parameters = {name: known[name] for name in case.path_parameters}
    if isinstance(case.body, dict) and "model" in operation.request.__struct_fields__:
        case.body["model"] = model


# Those that change what is loaded are asked with names that nobody knows, and nothing more.
HARMLESS = [operation for operation in OPERATIONS if operation.role != "operate"]


@pytest.mark.parametrize(
    "operation", HARMLESS, ids=lambda operation: f"{operation.method} {operation.path}"
)
def test_the_answer_to_the_example_is_as_described(zoo, schema, operation, model_of_task):
    described = schema[operation.path][operation.method]
    names = re.findall(r"{(\w+)}", operation.path)
    case = described.Case(path_parameters=dict.fromkeys(names, ""))
    if operation.request is not None:
        case.body, case.media_type = dict(operation.example), "application/json"
    place(case, operation, model_of_task)
    reply = case.call(base_url=zoo.address)
    assert reply.status_code == 200, reply.text
    case.validate_response(reply, checks=CHECKS)


@pytest.mark.parametrize(("operation", "mode"), ASKED)
def test_nothing_is_answered_that_is_not_described(zoo, schema, operation, mode, model_of_task):
    described = schema[operation.path][operation.method]
    seen = set()

    @hypothesis.given(case=described.as_strategy(generation_mode=mode))
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case):
        if operation in HARMLESS and operation.request is not None:
            place(case, operation, model_of_task)
        reply = case.call(base_url=zoo.address)
        case.validate_response(reply, checks=CHECKS)
        assert reply.status_code < 500 or reply.status_code == 503
        seen.add(reply.status_code)

    ask()
    if mode is GenerationMode.NEGATIVE:
        assert seen & {400, 422}
