"""`POST /v1/answer`: the span of a context that answers a question, or that there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from xlmr.serving.dataplane import Answered, AnswerOptions, Question
from xlmr.serving.http.bodies import Decoder
from xlmr.serving.http.endpoint import Call, Inference
from xlmr.serving.http.problems import Reply, native_problem
from xlmr.serving.http.verbs.items import Item, NativeResponse, as_list, renderer
from xlmr.types import SpanAnswer

# Which field of the body the texts of a pair stand in.
_FIELDS = {"[0]": ".question", "[1]": ".context"}


class QuestionContext(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A question, and the text it is answered from."""

    question: str
    context: str


class AnswerRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One question with its context, or several.

    `long`: what becomes of a context longer than the model reads. `max_answer_tokens`: the longest
    answer. `must_answer`: whether "no answer" is no option, however likely it is.
    """

    input: QuestionContext | Annotated[list[QuestionContext], Meta(min_length=1)]
    model: str | None = None
    long: Literal["truncate", "window", "error"] = "window"
    max_answer_tokens: Annotated[int, Meta(ge=1)] = 30
    must_answer: bool = False


class AnsweredItem(Item, kw_only=True):
    """`answer` is `context[start:end]`, counted in Unicode characters; null for "no answer".

    `score`: how likely what was answered is. `no_answer_score`: how likely there is no answer. Or
    the item's `error` alone.
    """

    answer: str | UnsetType | None = UNSET
    start: int | UnsetType = UNSET
    end: int | UnsetType = UNSET
    score: float | UnsetType = UNSET
    no_answer_score: float | UnsetType = UNSET


class AnswerResponse(NativeResponse, kw_only=True):
    """One item per question, in order."""

    items: list[AnsweredItem]


_decode = Decoder(AnswerRequest)


def ask_answer(call: Call) -> tuple[Question, Callable[[Answered], Reply]]:
    """The body as a question.

    Raises:
        BadJsonError: not JSON.
        InputError: JSON of another shape.
    """
    request = _decode(call.body)
    items, listed = as_list(request.input)
    question = Question(
        id=call.id,
        task="answer",
        items=[(item.question, item.context) for item in items],
        options=AnswerOptions(
            long=request.long,
            max_answer_tokens=request.max_answer_tokens,
            must_answer=request.must_answer,
        ),
        model=request.model,
        locate=_locate_listed if listed else _locate_single,
    )
    return question, render_answered


def _locate_listed(place: int, part: str) -> str:
    return f"$.input[{place}]{_FIELDS.get(part, part)}"


def _locate_single(place: int, part: str) -> str:
    return f"$.input{_FIELDS.get(part, part)}"


def _answer(item: AnsweredItem, answer: SpanAnswer) -> None:
    item.answer = answer.text or None
    item.start, item.end = answer.start, answer.end
    item.score, item.no_answer_score = answer.score, answer.no_answer_score


render_answered = renderer(AnswerResponse, AnsweredItem, _answer)

ANSWER = Inference(
    path="/v1/answer",
    method="POST",
    summary="Answer questions from contexts",
    description=(
        "One item per question, in order. A context longer than the model reads is read in "
        "overlapping windows unless `long` says otherwise; only a context is cut, never a question."
    ),
    problem=native_problem,
    request=AnswerRequest,
    response=AnswerResponse,
    example={"input": {"question": "Where does Anna live?", "context": "Anna lives in Berlin."}},
    reply={
        "id": "5f0c3a9d1b7e2468",
        "model": {"name": "squad", "version": "1", "digest": "9f86d081…"},
        "usage": {"tokens": 15},
        "items": [
            {
                "id": "5f0c3a9d1b7e2468-0",
                "tokens": 15,
                "total_tokens": 15,
                "truncated": False,
                "windows": 1,
                "language": {"code": "en", "confidence": 0.9121},
                "answer": "Berlin",
                "start": 14,
                "end": 20,
                "score": 0.97,
                "no_answer_score": 0.01,
            }
        ],
    },
    task="answer",
    ask=ask_answer,
)
