"""Errors as gRPC: one table from codes to statuses, and what a refusal carries beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import grpc

from xlmr.errors import InputError, UnavailableError, XlmrError

Metadata = tuple[tuple[str, str], ...]

# Codes that are missing here are faults of the server.
STATUS_OF_CODE: Mapping[str, Any] = {
    "invalid_input": grpc.StatusCode.INVALID_ARGUMENT,
    "invalid_header": grpc.StatusCode.INVALID_ARGUMENT,
    "too_long": grpc.StatusCode.INVALID_ARGUMENT,
    "too_many_items": grpc.StatusCode.INVALID_ARGUMENT,
    "budget_exceeded": grpc.StatusCode.INVALID_ARGUMENT,
    "model_not_found": grpc.StatusCode.NOT_FOUND,
    "task_not_supported": grpc.StatusCode.FAILED_PRECONDITION,
    "model_conflict": grpc.StatusCode.FAILED_PRECONDITION,
    "feedback_off": grpc.StatusCode.FAILED_PRECONDITION,
    "unauthenticated": grpc.StatusCode.UNAUTHENTICATED,
    "forbidden": grpc.StatusCode.PERMISSION_DENIED,
    "quota_exceeded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "overloaded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "deadline_exceeded": grpc.StatusCode.DEADLINE_EXCEEDED,
    "unavailable": grpc.StatusCode.UNAVAILABLE,
    "feedback_unavailable": grpc.StatusCode.UNAVAILABLE,
    "cancelled": grpc.StatusCode.UNAVAILABLE,
}


class InternalError(XlmrError):
    """A fault of the server; its log tells more under the same request id."""

    code = "internal"


def status_of(error: XlmrError) -> Any:
    """The gRPC status of an error."""
    return STATUS_OF_CODE.get(error.code, grpc.StatusCode.INTERNAL)


def details_of(error: XlmrError) -> str:
    """Place, fault and what to do, in one line."""
    place = f"{error.path}: " if isinstance(error, InputError) and error.path != "$" else ""
    hint = f" ({error.hint})" if error.hint else ""
    return f"{place}{error.message}{hint}"


def metadata_of(error: XlmrError) -> Metadata:
    """The typed code, the place, and when to come back: what a client may act on."""
    said: list[tuple[str, str]] = [("xlmr-code", error.code)]
    if isinstance(error, InputError):
        # Metadata is ASCII; a path may name what is not.
        said.append(("xlmr-path", error.path.encode("ascii", "replace").decode()))
    if isinstance(error, UnavailableError):
        said.append(("retry-after", str(max(1, math.ceil(error.retry_after_s)))))
    return tuple(said)
