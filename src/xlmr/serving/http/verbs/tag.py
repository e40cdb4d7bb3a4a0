"""`POST /v1/tag`: entities over whole words, with their places in the text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from xlmr.serving.dataplane import Answered, Question, TagOptions
from xlmr.serving.http.bodies import Decoder
from xlmr.serving.http.endpoint import Call, Inference
from xlmr.serving.http.problems import Reply, native_problem
from xlmr.serving.http.verbs.items import Item, NativeResponse, as_list, renderer
from xlmr.types import Entity, Tagging


class TagRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One text or several; `[["Anna", "lives"]]` is one text, given as its words.

    Words are read joined by single spaces, and that is the text which offsets count in.
    """

    input: str | Annotated[list[str | list[str]], Meta(min_length=1)]
    model: str | None = None
    long: Literal["truncate", "window", "error"] = "truncate"


class TaggedItem(Item, kw_only=True):
    """A text's entities in order of appearance. Or its `error` alone.

    `start` and `end` count Unicode characters, not bytes: `text[start:end]`.
    """

    entities: tuple[Entity, ...] | UnsetType = UNSET


class TagResponse(NativeResponse, kw_only=True):
    """One item per text, in order."""

    items: list[TaggedItem]


_decode = Decoder(TagRequest)


def ask_tag(call: Call) -> tuple[Question, Callable[[Answered], Reply]]:
    """The body as a question.

    Raises:
        BadJsonError: not JSON.
        InputError: JSON of another shape.
    """
    request = _decode(call.body)
    items, listed = as_list(request.input)
    question = Question(
        id=call.id,
        task="tag",
        items=items,
        options=TagOptions(long=request.long),
        model=request.model,
        listed=listed,
    )
    return question, render_tagged


def _answer(item: TaggedItem, answer: Tagging) -> None:
    item.entities = answer.entities


render_tagged = renderer(TagResponse, TaggedItem, _answer)

TAG = Inference(
    path="/v1/tag",
    method="POST",
    summary="Find entities in texts",
    description=(
        "One item per text, in order, each with its entities. A word is never split. With "
        "`long` as `window` a text of any length is read in overlapping windows."
    ),
    problem=native_problem,
    request=TagRequest,
    response=TagResponse,
    example={"input": "Anna lives in 北京."},
    reply={
        "id": "5f0c3a9d1b7e2468",
        "model": {"name": "names", "version": "1", "digest": "9f86d081…"},
        "usage": {"tokens": 8},
        "items": [
            {
                "id": "5f0c3a9d1b7e2468-0",
                "tokens": 8,
                "total_tokens": 8,
                "truncated": False,
                "windows": 1,
                "language": {"code": "en", "confidence": 0.8121},
                "entities": [
                    {"label": "PER", "start": 0, "end": 4, "text": "Anna", "score": 0.998},
                    {"label": "LOC", "start": 14, "end": 16, "text": "北京", "score": 0.995},
                ],
            }
        ],
    },
    task="tag",
    ask=ask_tag,
)
