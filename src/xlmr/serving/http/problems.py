"""Errors as HTTP: one table from codes to statuses, and the two shapes clients expect."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from http import HTTPStatus

import msgspec

from xlmr.errors import InputError, UnavailableError, XlmrError


class BadJsonError(XlmrError):
    """The body is not JSON, or not UTF-8."""

    code = "invalid_json"


class MediaTypeError(XlmrError):
    """The body is not declared as JSON."""

    code = "unsupported_media_type"


class BodyTooLargeError(XlmrError):
    """The body exceeds `max_body_bytes`."""

    code = "body_too_large"


class NoSuchPathError(XlmrError):
    """Nothing is served at this path."""

    code = "not_found"


class MethodError(XlmrError):
    """The path exists but does not take this method."""

    code = "method_not_allowed"


class InternalError(XlmrError):
    """A fault of the server; its log tells more under the same request id."""

    code = "internal"


# 422 is for JSON that was understood and cannot be used; too many texts are that, not too many
# bytes. Codes that are missing here are faults of the server.
STATUS_OF_CODE = {
    "invalid_json": 400,
    "task_not_supported": 400,
    "not_found": 404,
    "model_not_found": 404,
    "method_not_allowed": 405,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "invalid_input": 422,
    "too_long": 422,
    "budget_exceeded": 422,
    "engine_error": 500,
    "internal": 500,
    "missing_extra": 500,
    "cancelled": 503,
    "unavailable": 503,
}


def status_of(error: XlmrError) -> int:
    """The HTTP status of an error."""
    return STATUS_OF_CODE.get(error.code, 500)


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes over the wire. `headers` come on top of content type, length and request id."""

    body: bytes
    status: int = 200
    media_type: str = "application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def with_header(self, name: bytes, value: bytes) -> Reply:
        """The same reply with one header more."""
        return replace(self, headers=(*self.headers, (name, value)))


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """RFC 9457 problem details; `type` names the code, `path` points into the request body."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    path: str = ""
    hint: str = ""
    request_id: str = ""


class OpenAIFault(msgspec.Struct, kw_only=True):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIProblem(msgspec.Struct, kw_only=True):
    """OpenAI's error body."""

    error: OpenAIFault


_encoder = msgspec.json.Encoder()


def native_problem(error: XlmrError, request_id: str) -> Reply:
    """The native door's error body, `application/problem+json`."""
    status = status_of(error)
    problem = Problem(
        type=f"urn:xlmr:problem:{error.code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=error.message,
        code=error.code,
        path=error.path if isinstance(error, InputError) else "",
        hint=error.hint,
        request_id=request_id,
    )
    return Reply(_encoder.encode(problem), status, "application/problem+json", _headers_of(error))


def openai_problem(error: XlmrError, request_id: str) -> Reply:
    """The OpenAI door's error body."""
    status = status_of(error)
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    fault = OpenAIFault(
        message=message,
        type="invalid_request_error" if status < 500 else "server_error",
        param=error.path if isinstance(error, InputError) else None,
        code=error.code,
    )
    return Reply(_encoder.encode(OpenAIProblem(error=fault)), status, headers=_headers_of(error))


def _headers_of(error: XlmrError) -> tuple[tuple[bytes, bytes], ...]:
    if isinstance(error, UnavailableError):
        return ((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))),)
    return ()
