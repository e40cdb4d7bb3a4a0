"""All doors as one ASGI application."""

from __future__ import annotations

from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from xlmr.serving.dataplane import Dataplane
from xlmr.serving.http import health, native, openai
from xlmr.serving.http.docs import documentation
from xlmr.serving.http.endpoint import Endpoint, Inference, Page, new_request_id, send_reply
from xlmr.serving.http.problems import NoSuchPathError, native_problem

OPERATIONS: tuple[Page | Inference, ...] = (
    native.CLASSIFY,
    openai.EMBEDDINGS,
    openai.MODELS,
    openai.MODEL,
    health.LIVEZ,
    health.READYZ,
    health.METRICS,
)


def build_app(plane: Dataplane, *, max_body_bytes: int) -> Router:
    """Every operation on its path; anything else is a 404 that says where to look."""
    return Router(
        [
            Route(operation.path, Endpoint(operation, plane, max_body_bytes=max_body_bytes))
            for operation in (*OPERATIONS, *documentation(OPERATIONS))
        ],
        redirect_slashes=False,
        default=_nowhere,
    )


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    request_id = new_request_id()
    error = NoSuchPathError("nothing is served here", hint="GET /docs lists what is")
    await send_reply(send, native_problem(error, request_id), request_id)
