"""The life of one gRPC call: its metadata and message become a question, the answer a message.

A call whose client goes is cancelled by gRPC, and with it the question: it leaves the queue.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from xlmr.errors import XlmrError, let_go_of_frames
from xlmr.serving.dataplane import Answered, Dataplane, Question, Terms, read_terms
from xlmr.serving.grpc.faults import InternalError, Metadata, details_of, metadata_of, status_of
from xlmr.serving.grpc.messages import POOL
from xlmr.types import Caller

logger = logging.getLogger("xlmr.serving.grpc")

Ask = Callable[[Dataplane, Any, str], tuple[Question, Callable[[Answered], Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A call that asks a model.

    Attributes:
        task: what it asks, in the metrics, where a call never becomes a question.
        ask: (data plane, message, id) → the question, and what renders its answer as a message.
        verb: what the data plane does: have a model answer, or only tokenise.
    """

    task: str
    ask: Ask
    verb: Callable[[Dataplane, Question], Awaitable[Answered]] = Dataplane.answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Showing:
    """A call that shows what the server already knows.

    Attributes:
        show: (data plane, message) → message.
        role: what the caller must hold; None opens it to everybody.
    """

    show: Callable[[Dataplane, Any], Any]
    role: str | None = "predict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """A call that changes something, and may wait.

    Attributes:
        act: (data plane, message, id) → message.
        role: what the caller must hold.
    """

    act: Callable[[Dataplane, Any, str], Awaitable[Any]]
    role: str


def service_handler(
    service: str, calls: Mapping[str, Asking | Showing | Acting], plane: Dataplane, *, door: str
) -> Any:
    """A service's calls as gRPC's handler for them; their messages are those of its contract.

    Args:
        service: its full name.
        calls: by method; all that the contract has.
        plane: who answers.
        door: how metrics and logs call it.
    """
    described = POOL.FindServiceByName(service)
    handlers = {}
    for method in described.methods:
        handlers[method.name] = grpc.unary_unary_rpc_method_handler(
            _served(_work_of(calls[method.name], plane, door)),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(service, handlers)


def terms_of(context: Any) -> Terms:
    """What the call's metadata says beside its message."""
    return read_terms(
        [
            (
                key.encode(),
                value if isinstance(value, bytes) else value.encode("latin-1", "replace"),
            )
            for key, value in context.invocation_metadata() or ()
        ]
    )


@dataclass(slots=True)
class _Call:
    """One call on its way: what it says, and what its end says beside answer or refusal."""

    context: Any
    terms: Terms
    known: Metadata


_Work = Callable[[Any, _Call], Awaitable[Any]]


def _served(work: _Work) -> Callable[[Any, Any], Awaitable[Any]]:
    """Work as gRPC runs it: it ends with a message, or with the status of what went wrong."""

    async def serve(message: Any, context: Any) -> Any:
        terms = terms_of(context)
        call = _Call(context, terms, (("x-request-id", terms.request_id),))
        try:
            reply = await work(message, call)
            context.set_trailing_metadata(call.known)
            return reply
        except XlmrError as error:
            fault = error
        except Exception:
            # The last line before gRPC, which would tell the client the words of our fault.
            logger.exception("request %s failed", terms.request_id)
            fault = InternalError("the server failed")
        await refuse(context, fault, call.known)

    return serve


def _work_of(call: Asking | Showing | Acting, plane: Dataplane, door: str) -> _Work:
    if isinstance(call, Asking):
        return _asked(call, plane, door)

    async def show(message: Any, told: _Call) -> Any:
        if call.role is not None:
            await plane.caller(told.terms.credential, call.role)
        if isinstance(call, Acting):
            return await call.act(plane, message, told.terms.request_id)
        return call.show(plane, message)

    return show


def _asked(call: Asking, plane: Dataplane, door: str) -> _Work:
    async def answer(message: Any, told: _Call) -> Any:
        arrived, terms = time.perf_counter(), told.terms
        trace = plane.trace(terms.traceparent)
        if trace is not None and trace.sampled:
            told.known = (*told.known, ("traceresponse", trace.traceparent))
        try:
            deadline = _deadline(terms, told.context)
            caller: Caller = await plane.caller(terms.credential, "predict")
            question, render = call.ask(plane, message, terms.request_id)
            question = question.replace(
                caller=caller,
                deadline=question.deadline if deadline is None else deadline,
                priority=terms.priority(),
                door=door,
                subject=terms.subject,
                arrived=arrived,
                trace=trace,
            )
        except XlmrError as error:
            plane.refused(
                terms.request_id, call.task, error, door=door, arrived=arrived, trace=trace
            )
            raise
        answered = await call.verb(plane, question)
        reply = render(answered)
        told.known = (*told.known, *_timing(answered))
        return reply

    return answer


async def refuse(context: Any, error: XlmrError, known: Sequence[tuple[str, str]] = ()) -> None:
    """Ends the call with the error's status, and with its code for machines."""
    let_go_of_frames(error)
    await context.abort(
        status_of(error), details_of(error), trailing_metadata=(*known, *metadata_of(error))
    )


def _deadline(terms: Terms, context: Any) -> float | None:
    """The sooner of the call's own deadline and the one its metadata names.

    Raises:
        HeaderError: no number of milliseconds.
    """
    now = time.monotonic()
    named, left = terms.deadline(now), context.time_remaining()
    moments = [moment for moment in (named, None if left is None else now + left) if moment]
    return min(moments) if moments else None


def _timing(answered: Answered) -> Metadata:
    """Whole milliseconds, under the names that the HTTP doors use."""
    timing = answered.timing
    return (
        ("x-compute-tokens", str(answered.tokens)),
        ("x-total-time", str(int(timing.total_s * 1000))),
        ("x-tokenization-time", str(int(timing.tokenise_s * 1000))),
        ("x-queue-time", str(int(timing.queue_s * 1000))),
        ("x-inference-time", str(int(timing.infer_s * 1000))),
    )
