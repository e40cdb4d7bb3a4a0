"""`/openapi.json`, made from the message types, and `/docs`, a page made from that.

The page is plain HTML: no script, nothing fetched from elsewhere, readable offline.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape
from http import HTTPStatus
from typing import Any

import msgspec

import xlmr
from xlmr.serving.http.endpoint import Inference, Operation, Page
from xlmr.serving.http.problems import (
    OpenAIProblem,
    Problem,
    Reply,
    native_problem,
    openai_problem,
)

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem;
       color: #1c1e21; background: #fff }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd }
pre { background: #f5f6f7; padding: .8rem; overflow-x: auto; border-radius: 4px }
code, pre { font: 14px/1.45 ui-monospace, monospace }
table { border-collapse: collapse } td, th { text-align: left; padding: .2rem 1rem .2rem 0;
       vertical-align: top }
.method { color: #0a6b3d; font-weight: 600 }
@media (prefers-color-scheme: dark) { body { color: #e4e6eb; background: #18191a }
       pre { background: #242526 } h2 { border-color: #444 } .method { color: #5fd39a } }
"""


_MEANINGS = {
    400: "The body is not JSON, a header says what it cannot say, or the model cannot do this",
    401: "No key, a wrong one, or one that has expired",
    403: "The key does not allow this",
    404: "No model of that name",
    409: "Not while another model, version or alias is as it is",
    413: "The body is too large",
    415: "The body is not declared as JSON",
    422: "The body was understood and cannot be used; the error says where and why",
    424: "The model failed",
    429: "Too much at once, or more than the key may use; nothing was computed",
    500: "The server failed; its log tells more under the same request id",
    503: "Not now; nothing was computed",
}
_Header = tuple[str, dict[str, Any]]
_REQUEST_ID: _Header = (
    "x-request-id",
    {"description": "By which the log knows the request", "schema": {"type": "string"}},
)
_RETRY_AFTER: _Header = (
    "retry-after",
    {
        "description": "Seconds until it is sensible to ask again",
        "schema": {"type": "integer", "minimum": 1},
    },
)
_AUTHENTICATE: _Header = (
    "www-authenticate",
    {"description": "How to say who asks", "schema": {"type": "string"}},
)


def openapi(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI 3.1 description of the operations."""
    kinds = [
        kind
        for o in operations
        for kind in (o.request, o.response, o.fault, *o.replies.values())
        if kind is not None
    ]
    kinds += [Problem, OpenAIProblem]
    _, components = msgspec.json.schema_components(
        kinds, ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "xlmr", "version": xlmr.__version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": components},
    }


def _described(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.response is not None:
        content["schema"] = _reference(operation.response)
    if operation.reply is not None:
        content["example"] = operation.reply
    described: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", operation.method.lower() + operation.path).strip("_"),
        "summary": operation.summary,
        "description": operation.description,
        "responses": {
            "200": {
                "description": "OK",
                "headers": dict([_REQUEST_ID]),
                "content": {operation.media_type: content},
            },
            **{str(status): _refusal(operation, status) for status in _statuses(operation)},
            **{str(status): _other(kind) for status, kind in operation.replies.items()},
        },
    }
    if "{" in operation.path:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)}", operation.path)
        ]
    if operation.request is not None:
        body = {"schema": _reference(operation.request), "example": operation.example}
        described["requestBody"] = {"required": True, "content": {"application/json": body}}
    return described


def _statuses(operation: Operation) -> tuple[int, ...]:
    """Those of every error that this kind of operation can end in."""
    if operation.statuses is not None:
        return operation.statuses
    if isinstance(operation, Inference):
        return (400, 401, 403, 404, 413, 415, 422, 429, 500, 503)
    known = (401, 403) if operation.role is not None else ()
    found = (404,) if "{" in operation.path else ()
    # A page that no role guards is made of what the server knows already.
    busy = (503,) if operation.role is not None else ()
    return (*known, *found, 500, *busy)


def _refusal(operation: Operation, status: int) -> dict[str, Any]:
    kind: type = Problem
    media_type = "application/problem+json"
    if operation.fault is not None:
        kind, media_type = operation.fault, "application/json"
    elif operation.problem is openai_problem:
        kind, media_type = OpenAIProblem, "application/json"
    headers = [_REQUEST_ID]
    if status in (429, 503):
        headers.append(_RETRY_AFTER)
    if status == 401:
        headers.append(_AUTHENTICATE)
    return {
        "description": _MEANINGS.get(status, HTTPStatus(status).phrase),
        "headers": dict(headers),
        "content": {media_type: {"schema": _reference(kind)}},
    }


def _other(kind: type) -> dict[str, Any]:
    return {
        "description": "No: why stands in the body",
        "headers": dict([_REQUEST_ID]),
        "content": {"application/json": {"schema": _reference(kind)}},
    }


def _reference(kind: type) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {"$ref": f"#/components/schemas/{kind.__name__}"}
    # A bare list, say: it has no name to be referred to by.
    (schema,), _ = msgspec.json.schema_components(
        [kind], ref_template="#/components/schemas/{name}"
    )
    return schema


def docs_page(description: dict[str, Any]) -> str:
    """The description as one HTML page with a curl line for each operation."""
    sections = [
        _section(path, method, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    types = "".join(
        f'<h4 id="{escape(name)}">{escape(name)}</h4>{_fields(schema)}'
        for name, schema in description["components"]["schemas"].items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>xlmr</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>xlmr {escape(description['info']['version'])}"
        '</h1><p>Machine-readable: <a href="/openapi.json">/openapi.json</a>. Every reply carries '
        "<code>x-request-id</code>, which the server's log shows too.</p>"
        f"{''.join(sections)}<h2>Types</h2>{types}</body></html>"
    )


def _section(path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [
        f'<h2><span class="method">{method.upper()}</span> <code>{escape(path)}</code></h2>',
        f"<p><b>{escape(operation['summary'])}</b></p><p>{_prose(operation['description'])}</p>",
        f"<pre>{escape(curl_line(path, operation))}</pre>",
    ]
    body = operation.get("requestBody")
    if body is not None:
        parts.append(f"<p>Takes {_link(body['content']['application/json']['schema'])}</p>")
    for content in operation["responses"]["200"]["content"].values():
        if "schema" in content:
            parts.append(f"<p>Gives {_link(content['schema'])}</p>")
    return "".join(parts)


def curl_line(path: str, operation: dict[str, Any]) -> str:
    """A command that calls the operation on the server's default address."""
    body = operation.get("requestBody")
    if body is None:
        return f"curl http://127.0.0.1:8080{path}"
    example = json.dumps(body["content"]["application/json"]["example"], ensure_ascii=False)
    return (
        f"curl http://127.0.0.1:8080{path} \\\n  -H 'content-type: application/json' \\\n"
        f"  -d '{example}'"
    )


def _link(reference: dict[str, Any]) -> str:
    if "$ref" not in reference:
        return f"<code>{escape(_kind(reference))}</code>"
    name = escape(reference["$ref"].rpartition("/")[2])
    return f'<a href="#{name}">{name}</a>'


def _prose(text: str) -> str:
    """Text with `names` set as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _fields(schema: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td><code>{escape(_kind(field))}</code></td>"
        f"<td>{_default(field)}</td></tr>"
        for name, field in schema["properties"].items()
    )
    return f"<p>{_prose(schema.get('description', ''))}</p><table>{rows}</table>"


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return ""
    return f"default <code>{escape(json.dumps(field['default']))}</code>"


def _kind(field: dict[str, Any]) -> str:
    """A schema in a few words: `str or list of str`."""
    if "anyOf" in field:
        return " or ".join(_kind(one) for one in field["anyOf"])
    if "$ref" in field:
        return str(field["$ref"].rpartition("/")[2])
    if "enum" in field:
        return " or ".join(json.dumps(value) for value in field["enum"])
    if "prefixItems" in field:
        return f"[{', '.join(_kind(one) for one in field['prefixItems'])}]"
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    return str(field.get("type", "any"))


def documentation(operations: Sequence[Operation]) -> tuple[Page, Page]:
    """The two pages, rendered once."""
    described = openapi(operations)
    as_json = json.dumps(described, ensure_ascii=False).encode()
    as_html = docs_page(described).encode()
    return (
        Page(
            path="/openapi.json",
            method="GET",
            summary="This description for machines",
            role=None,
            problem=native_problem,
            show=lambda plane, call: Reply(as_json),
        ),
        Page(
            path="/docs",
            method="GET",
            summary="This description for people",
            role=None,
            problem=native_problem,
            media_type="text/html",
            show=lambda plane, call: Reply(as_html, media_type="text/html; charset=utf-8"),
        ),
    )
