"""One path of the server: a request in, a reply out.

It reads the body, has the operation answer, and renders whatever goes wrong in the operation's own
shape. Everything a request costs outside tokenising and computing is spent here and in the data
plane, so there is no stack of middleware around it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from xlmr.errors import UnavailableError, XlmrError, let_go_of_frames
from xlmr.serving.dataplane import (
    ANONYMOUS,
    Answered,
    Dataplane,
    Question,
    Terms,
    Trace,
    read_terms,
)
from xlmr.serving.http.bodies import require_json
from xlmr.serving.http.problems import InternalError, MethodError, Reply
from xlmr.serving.http.request import ClientGoneError, Request
from xlmr.serving.http.timing import timing_lines, trace_line
from xlmr.types import Caller

T = TypeVar("T")

logger = logging.getLogger("xlmr.serving.http")

# A refused body up to this size is read to its end and dropped, so that the client sees the answer
# rather than a reset connection. Beyond it, or where no length was declared, the connection closes.
_POLITE_BYTES = 64 * 1024 * 1024


class Call(msgspec.Struct, frozen=True):
    """A request as operations see it; `plane` tells what is loaded, for doors that must know.

    Who asks, until when and how urgently is none of their business: the endpoint puts it into the
    question they make.
    """

    id: str
    body: bytes
    path_params: Mapping[str, str]
    headers: Sequence[tuple[bytes, bytes]] = ()
    plane: Dataplane | None = None
    caller: Caller = ANONYMOUS


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What every operation tells the router and the documentation.

    Attributes:
        problem: renders an error in the shape this door's clients know.
        request: the body's type, None where there is no body.
        response: the answer's type, None where it is not JSON.
        example: a request body that works.
        reply: a body it answers with.
        fault: the type of an error's body, where it is neither the native door's nor OpenAI's.
        statuses: those of errors that can happen; None for those of its kind of operation.
        replies: bodies of other statuses that are no errors.
        role: what the caller must hold to ask; None opens it to everybody, key or not.
        door: which contract it belongs to, in metrics and logs.
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
    reply: Any = None
    fault: type | None = None
    statuses: tuple[int, ...] | None = None
    replies: Mapping[int, type] = field(default_factory=dict)
    role: str | None = "predict"
    door: str = "native"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Operation):
    """Shows what the server already knows; needs no model."""

    show: Callable[[Dataplane, Call], Reply]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference(Operation):
    """Asks a model: a body becomes a question, and its answer a body again.

    Attributes:
        task: what it asks, in the metrics, where a request never becomes a question.
        ask: the question, and what renders its answer.
        verb: what the data plane does: have a model answer, or only tokenise.
        accept: refuses requests whose headers declare no body that `ask` reads.
    """

    task: str
    ask: Callable[[Call], tuple[Question, Callable[[Answered], Reply]]]
    accept: Callable[[Request], None] = require_json
    verb: Callable[[Dataplane, Question], Awaitable[Answered]] = Dataplane.answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Action(Operation):
    """Changes what is served. `act` gets the server's data plane with the call, and may wait.

    `accept` is as for `Inference`.
    """

    accept: Callable[[Request], None] = require_json
    act: Callable[[Dataplane, Call], Awaitable[Reply]]
    role: str | None = "operate"


class Endpoint:
    """Serves one operation; `allowed` are the methods of all those on its path."""

    def __init__(
        self,
        operation: Page | Inference | Action,
        plane: Dataplane,
        *,
        max_body_bytes: int,
        allowed: Sequence[str] = (),
    ) -> None:
        self._operation = operation
        self._plane = plane
        self._max_body_bytes = max_body_bytes
        self._allowed = ", ".join(allowed or (operation.method,))

    async def __call__(self, request: Request) -> Reply | None:
        """Answers one request; with nothing where its client is gone."""
        arrived = time.perf_counter()
        terms = read_terms(request.headers)
        trace = self._plane.trace(terms.traceparent)
        try:
            reply = await self._reply(request, terms, arrived, trace)
        except ClientGoneError:
            return None
        except XlmrError as error:
            reply = self._refuse(error, terms.request_id, request)
            let_go_of_frames(error)
        except Exception:
            # The last line before the web server: a fault of ours is a 500 in the client's shape.
            logger.exception("request %s failed", terms.request_id)
            reply = self._operation.problem(InternalError("the server failed"), terms.request_id)
        return sent(reply, terms.request_id, trace)

    async def _reply(
        self, request: Request, terms: Terms, arrived: float, trace: Trace | None
    ) -> Reply:
        operation, plane, request_id = self._operation, self._plane, terms.request_id
        if not _takes(operation.method, request.method):
            raise MethodError(f"this path takes {self._allowed}")
        if isinstance(operation, Page):
            reader = ANONYMOUS
            if operation.role is not None:
                reader = await plane.caller(terms.credential, operation.role)
            return operation.show(plane, Call(request_id, b"", request.params, caller=reader))
        if isinstance(operation, Action):
            return await self._act(operation, request, terms)
        caller: Caller | None = None
        try:
            deadline, priority = terms.deadline(time.monotonic()), terms.priority()
            # Before the body: who may not ask costs us nothing but the headers.
            caller = await plane.caller(terms.credential, operation.role)
            operation.accept(request)
            body = await request.body(self._max_body_bytes)
            call = Call(request_id, body, request.params, request.headers, plane, caller)
            question, render = operation.ask(call)
            question = question.replace(
                caller=caller,
                deadline=question.deadline if deadline is None else deadline,
                priority=priority,
                door=operation.door,
                subject=terms.subject,
                arrived=arrived,
                trace=trace,
            )
        except Exception as error:
            plane.refused(
                request_id,
                operation.task,
                _told(error),
                door=operation.door,
                caller=caller.name if caller else "",
                arrived=arrived,
                trace=trace,
            )
            raise
        answered = await unless_gone(operation.verb(plane, question), request)
        return render(answered).with_head(timing_lines(answered))

    async def _act(self, operation: Action, request: Request, terms: Terms) -> Reply:
        caller = await self._plane.caller(terms.credential, operation.role)
        body = b""
        if operation.request is not None:
            operation.accept(request)
            body = await request.body(self._max_body_bytes)
        call = Call(terms.request_id, body, request.params, caller=caller)
        return await operation.act(self._plane, call)

    def _refuse(self, error: XlmrError, request_id: str, request: Request) -> Reply:
        reply = self._operation.problem(error, request_id)
        if error.code == "method_not_allowed":
            return reply.with_header(b"allow", self._allowed.encode())
        if error.code == "body_too_large" and not _polite(request):
            return msgspec.structs.replace(reply, closes=True)
        return reply


def _told(error: Exception) -> XlmrError | None:
    """What metrics, log and trace are told of a request that is no question; None: nobody waits."""
    if isinstance(error, ClientGoneError):
        return None
    return error if isinstance(error, XlmrError) else InternalError("the server failed")


class OnePath:
    """Several operations on one path, told apart by their methods."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints
        # HEAD is answered as GET; what no operation takes is refused by any of them.
        self._otherwise = endpoints.get("GET") or next(iter(endpoints.values()))

    async def __call__(self, request: Request) -> Reply | None:
        """Answers one request."""
        return await self._endpoints.get(request.method, self._otherwise)(request)


async def unless_gone(work: Awaitable[T], request: Request) -> T:
    """Awaits what answers a request, and cancels it the moment the client hangs up.

    Raises:
        ClientGoneError: the client hung up.
        UnavailableError: the server stops and waits no longer.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = False

    def leave() -> None:
        nonlocal gone
        gone = True
        task.cancel()

    request.leaving.add(leave)
    try:
        return await work
    except asyncio.CancelledError:
        task.uncancel()
        if gone:
            raise ClientGoneError from None
        # The web server gives up on draining: the client is still there and is told so.
        raise UnavailableError(
            "the server stopped before the answer", retry_after_s=1.0, reason="draining"
        ) from None
    finally:
        request.leaving.discard(leave)


def sent(reply: Reply, request_id: str, trace: Trace | None = None) -> Reply:
    """A reply as it leaves: with what every one of them says."""
    return reply.with_head(b"x-request-id: %b\r\n%b" % (request_id.encode(), trace_line(trace)))


def _takes(method: str, given: str) -> bool:
    return given == method or (given == "HEAD" and method == "GET")


def _polite(request: Request) -> bool:
    declared = request.header(b"content-length")
    return bool(declared) and int(declared) <= _POLITE_BYTES
