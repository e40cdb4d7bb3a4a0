"""Errors as HTTP: one table from codes to statuses, and the two shapes clients expect."""

from __future__ import annotations

import math
from http import HTTPStatus

import msgspec

from xlmr.errors import InputError, UnauthenticatedError, UnavailableError, XlmrError


class BadJsonError(XlmrError):
    """The body is not JSON, or not UTF-8."""

    code = "invalid_json"


class MediaTypeError(XlmrError):
    """The body is not declared as JSON."""

    code = "unsupported_media_type"


class EmptyError(InputError):
    """A list that must hold something is empty."""

    code = "empty"


class BodyTooLargeError(XlmrError):
    """The body exceeds `max_body_bytes`."""

    code = "body_too_large"


class NoSuchPathError(XlmrError):
    """Nothing is served at this path."""

    code = "not_found"


class MethodError(XlmrError):
    """The path exists but does not take this method."""

    code = "method_not_allowed"


class UnhealthyError(XlmrError):
    """Requests should not be sent here; for doors whose health pages answer in an error's shape."""

    code = "unhealthy"


class InternalError(XlmrError):
    """A fault of the server; its log tells more under the same request id."""

    code = "internal"


# 422 is for JSON that was understood and cannot be used; too many texts are that, not too many
# bytes. Codes that are missing here are faults of the server.
STATUS_OF_CODE = {
    "invalid_json": 400,
    "invalid_header": 400,
    "empty": 400,
    "task_not_supported": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "model_not_found": 404,
    "feedback_off": 404,
    "method_not_allowed": 405,
    "model_conflict": 409,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "invalid_input": 422,
    "too_long": 422,
    "too_many_items": 422,
    "budget_exceeded": 422,
    "model_refused": 422,
    "weights_error": 422,
    "digest_mismatch": 422,
    "proof_failed": 422,
    "quota_exceeded": 429,
    "overloaded": 429,
    "engine_error": 500,
    "non_finite": 500,
    "internal": 500,
    "missing_extra": 500,
    "cancelled": 503,
    "deadline_exceeded": 503,
    "feedback_unavailable": 503,
    "unavailable": 503,
    "unhealthy": 503,
}


def status_of(error: XlmrError) -> int:
    """The HTTP status of an error."""
    return STATUS_OF_CODE.get(error.code, 500)


class Reply(msgspec.Struct, frozen=True):
    """What goes over the wire.

    Attributes:
        head: header lines beside those of content type and length, each with its end.
        closes: whether it is the last on its connection.
    """

    body: bytes
    status: int = 200
    media_type: str = "application/json"
    head: bytes = b""
    closes: bool = False

    def with_header(self, name: bytes, value: bytes) -> Reply:
        """The same reply with one header more."""
        return self.with_head(b"%b: %b\r\n" % (name, value))

    def with_head(self, lines: bytes) -> Reply:
        """The same reply with more header lines, each with its end."""
        return Reply(self.body, self.status, self.media_type, self.head + lines, self.closes)


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
    return Reply(_encoder.encode(problem), status, "application/problem+json", _head_of(error))


_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


def openai_problem(error: XlmrError, request_id: str) -> Reply:
    """The OpenAI door's error body."""
    status = status_of(error)
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    fault = OpenAIFault(
        message=message,
        type="server_error" if status >= 500 else _OPENAI_TYPES.get(status, _OPENAI_TYPES[400]),
        param=error.path if isinstance(error, InputError) else None,
        code=error.code,
    )
    return Reply(_encoder.encode(OpenAIProblem(error=fault)), status, head=_head_of(error))


class TeiProblem(msgspec.Struct, kw_only=True):
    """text-embeddings-inference's error body."""

    error: str
    error_type: str


# text-embeddings-inference has its own statuses, and clients that go by them: too much of anything
# is a 413, whatever goes wrong behind the door a 424, and a full queue a 429.
_TEI_OF_CODE = {
    "empty": (400, "Empty"),
    "too_many_items": (413, "Validation"),
    "too_long": (413, "Validation"),
    "body_too_large": (413, "Validation"),
    "task_not_supported": (424, "Backend"),
    "budget_exceeded": (424, "Backend"),
    "engine_error": (424, "Backend"),
    "non_finite": (424, "Backend"),
    "internal": (500, "Backend"),
    "cancelled": (424, "Backend"),
    "unhealthy": (503, "Unhealthy"),
    "unavailable": (429, "Overloaded"),
    "deadline_exceeded": (429, "Overloaded"),
    "overloaded": (429, "Overloaded"),
    "quota_exceeded": (429, "Overloaded"),
}


def tei_problem(error: XlmrError, request_id: str) -> Reply:
    """text-embeddings-inference's error body."""
    status, kind = _TEI_OF_CODE.get(error.code, (status_of(error), "Validation"))
    problem = TeiProblem(error=_sentence(error), error_type=kind)
    return Reply(_encoder.encode(problem), status, head=_head_of(error))


class OipProblem(msgspec.Struct, kw_only=True):
    """The Open Inference Protocol's error body."""

    error: str


def oip_problem(error: XlmrError, request_id: str) -> Reply:
    """The Open Inference Protocol's error body."""
    status = status_of(error)
    # The protocol has no word for what is understood and cannot be used: it is a bad request.
    status = 400 if status == 422 else status
    problem = OipProblem(error=_sentence(error))
    return Reply(_encoder.encode(problem), status, head=_head_of(error))


def _sentence(error: XlmrError) -> str:
    """Place, fault and what to do, for bodies that have one field for all of it."""
    place = f"{error.path}: " if isinstance(error, InputError) and error.path != "$" else ""
    hint = f" ({error.hint})" if error.hint else ""
    return f"{place}{error.message}{hint}"


def _head_of(error: XlmrError) -> bytes:
    if isinstance(error, UnavailableError):
        return b"retry-after: %d\r\n" % max(1, math.ceil(error.retry_after_s))
    if isinstance(error, UnauthenticatedError):
        return b'www-authenticate: Bearer realm="xlmr"\r\n'
    return b""
