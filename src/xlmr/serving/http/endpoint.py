"""One path of the server as a plain ASGI application.

It reads the body, has the operation answer, and renders whatever goes wrong in the operation's own
shape. Everything a request costs outside tokenising and computing is spent here and in the data
plane, so there is no stack of middleware around it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.types import Receive, Scope, Send

from xlmr.errors import UnavailableError, XlmrError
from xlmr.serving.dataplane import Answered, Dataplane, Question
from xlmr.serving.http.bodies import ClientGoneError, header, read_body, require_json
from xlmr.serving.http.problems import InternalError, MethodError, Reply

T = TypeVar("T")

logger = logging.getLogger("xlmr.serving.http")

# A refused body up to this size is read to its end and dropped, so that the client sees the answer
# rather than a reset connection. Beyond it, or where no length was declared, the connection closes.
_POLITE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """A request as operations see it."""

    id: str
    body: bytes
    path_params: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What every operation tells the router and the documentation.

    Attributes:
        problem: renders an error in the shape this door's clients know.
        request: the body's type, None where there is no body.
        response: the answer's type, None where it is not JSON.
        example: a request body that works.
    """

    path: str
    method: str
    summary: str
    problem: Callable[[XlmrError, str], Reply]
    description: str = ""
    request: type | None = None
    response: type | None = None
    media_type: str = "application/json"
    example: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Operation):
    """Shows what the server already knows; needs no model."""

    show: Callable[[Dataplane, Call], Reply]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference(Operation):
    """Asks a model: a body becomes a question, and its answer a body again.

    Attributes:
        ask: the question, and what renders its answer.
    """

    task: str
    ask: Callable[[Call], tuple[Question, Callable[[Answered], Reply]]]


class Endpoint:
    """Serves one operation."""

    def __init__(
        self, operation: Page | Inference, plane: Dataplane, *, max_body_bytes: int
    ) -> None:
        self._operation = operation
        self._plane = plane
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        request_id = new_request_id()
        try:
            reply = await self._reply(scope, receive, request_id)
        except ClientGoneError:
            return
        except XlmrError as error:
            reply = self._refuse(error, request_id, scope)
        except Exception:
            # The last line before the web server: a fault of ours is a 500 in the client's shape.
            logger.exception("request %s failed", request_id)
            reply = self._operation.problem(InternalError("the server failed"), request_id)
        await send_reply(send, reply, request_id)

    async def _reply(self, scope: Scope, receive: Receive, request_id: str) -> Reply:
        operation, plane = self._operation, self._plane
        if not _takes(operation.method, scope["method"]):
            raise MethodError(f"this path takes {operation.method}")
        if isinstance(operation, Page):
            return operation.show(plane, Call(request_id, b"", scope["path_params"]))
        try:
            require_json(scope)
            body = await read_body(scope, receive, self._max_body_bytes)
            question, render = operation.ask(Call(request_id, body, scope["path_params"]))
        except XlmrError as error:
            plane.refused(request_id, operation.task, error.code)
            raise
        return render(await unless_gone(plane.answer(question), receive))

    def _refuse(self, error: XlmrError, request_id: str, scope: Scope) -> Reply:
        reply = self._operation.problem(error, request_id)
        if error.code == "method_not_allowed":
            return reply.with_header(b"allow", self._operation.method.encode())
        if error.code == "body_too_large" and not _polite(scope):
            return reply.with_header(b"connection", b"close")
        return reply


async def unless_gone(work: Awaitable[T], receive: Receive) -> T:
    """Awaits the work, and cancels it the moment the client hangs up.

    Raises:
        ClientGoneError: the client hung up.
        UnavailableError: the server stops and waits no longer.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.get_running_loop().create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        task.uncancel()
        if gone:
            raise ClientGoneError from None
        # The web server gives up on draining: the client is still there and is told so.
        raise UnavailableError("the server stopped before the answer", retry_after_s=1.0) from None
    finally:
        watcher.cancel()


async def send_reply(send: Send, reply: Reply, request_id: str) -> None:
    """Sends a whole reply."""
    headers = [
        (b"content-type", reply.media_type.encode()),
        (b"content-length", b"%d" % len(reply.body)),
        (b"x-request-id", request_id.encode()),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def new_request_id() -> str:
    """16 hexadecimal digits: to find a request by, not to guard it with."""
    return f"{random.getrandbits(64):016x}"


def _takes(method: str, given: str) -> bool:
    return given == method or (given == "HEAD" and method == "GET")


def _polite(scope: Scope) -> bool:
    declared = header(scope, b"content-length")
    return bool(declared) and int(declared) <= _POLITE_BYTES
