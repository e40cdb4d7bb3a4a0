"""`POST /v1/fill`: what may stand where a text says `<mask>`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from xlmr.serving.dataplane import Answered, FillOptions, Question
from xlmr.serving.http.bodies import Decoder
from xlmr.serving.http.endpoint import Call, Inference
from xlmr.serving.http.problems import Reply, native_problem
from xlmr.serving.http.verbs.items import Item, NativeResponse, as_list, renderer
from xlmr.types import Filling


class FillRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One text or several, each with at least one `<mask>`. `top`: candidates for each mask."""

    input: str | Annotated[list[str], Meta(min_length=1)]
    model: str | None = None
    top: Annotated[int, Meta(ge=1, le=1000)] = 5


class Candidate(msgspec.Struct, kw_only=True):
    """What may stand there, and how likely it is."""

    text: str
    score: float


class FilledItem(Item, kw_only=True):
    """The candidates of each `<mask>` that was read, likeliest first. Or the text's `error` alone.

    Masks beyond the model's length are not read; `truncated` says so.
    """

    masks: list[list[Candidate]] | UnsetType = UNSET


class FillResponse(NativeResponse, kw_only=True):
    """One item per text, in order."""

    items: list[FilledItem]


_decode = Decoder(FillRequest)


def ask_fill(call: Call) -> tuple[Question, Callable[[Answered], Reply]]:
    """The body as a question.

    Raises:
        BadJsonError: not JSON.
        InputError: JSON of another shape.
    """
    request = _decode(call.body)
    items, listed = as_list(request.input)
    question = Question(
        id=call.id,
        task="fill",
        items=items,
        options=FillOptions(top=request.top),
        model=request.model,
        listed=listed,
    )
    return question, render_filled


def _answer(item: FilledItem, answer: Filling) -> None:
    item.masks = [
        [Candidate(text=one.label, score=one.score) for one in candidates]
        for candidates in answer.masks
    ]


render_filled = renderer(FillResponse, FilledItem, _answer)

FILL = Inference(
    path="/v1/fill",
    method="POST",
    summary="Fill masked words",
    description="One item per text, in order, with candidates for each `<mask>` in it.",
    problem=native_problem,
    request=FillRequest,
    response=FillResponse,
    example={"input": "Paris is the <mask> of France.", "top": 2},
    reply={
        "id": "5f0c3a9d1b7e2468",
        "model": {"name": "base", "version": "1", "digest": "9f86d081…"},
        "usage": {"tokens": 9},
        "items": [
            {
                "id": "5f0c3a9d1b7e2468-0",
                "tokens": 9,
                "total_tokens": 9,
                "truncated": False,
                "windows": 1,
                "language": {"code": "en", "confidence": 0.9412},
                "masks": [[{"text": "capital", "score": 0.96}, {"text": "heart", "score": 0.01}]],
            }
        ],
    },
    task="fill",
    ask=ask_fill,
)
