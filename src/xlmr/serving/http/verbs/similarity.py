"""`POST /v1/similarity`: how near sentences are to one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from xlmr.serving.dataplane import Answered, EmbedOptions, Question
from xlmr.serving.http.bodies import Decoder
from xlmr.serving.http.endpoint import Call, Inference
from xlmr.serving.http.problems import Reply, native_problem
from xlmr.serving.http.verbs.items import (
    Item,
    NativeResponse,
    Usage,
    describe,
    encoded,
    items_of,
    model_name,
    prediction_id,
)
from xlmr.types import Embedding


class SimilarityRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A sentence, and those it is compared with.

    `prompt`: name of one of the model's prompts, put before all of them; null for its default.
    """

    source: str
    sentences: Annotated[list[str], Meta(min_length=1)]
    model: str | None = None
    prompt: str | None = None
    long: Literal["truncate", "window", "error"] = "truncate"


class SimilarItem(Item, kw_only=True):
    """The cosine of the angle to the source's vector, -1 to 1. Or the sentence's `error` alone."""

    similarity: float | UnsetType = UNSET


class SimilarityResponse(NativeResponse, kw_only=True):
    """One item per sentence, in order, and how much of the source was read."""

    source: Item
    items: list[SimilarItem]


_decode = Decoder(SimilarityRequest)


def ask_similarity(call: Call) -> tuple[Question, Callable[[Answered], Reply]]:
    """The body as a question.

    Raises:
        BadJsonError: not JSON.
        InputError: JSON of another shape.
    """
    request = _decode(call.body)
    question = Question(
        id=call.id,
        task="embed",
        items=[request.source, *request.sentences],
        options=EmbedOptions(prompt=request.prompt, normalize=True, long=request.long),
        model=request.model,
        path="$.sentences",
        locate=_locate,
        needs_first=True,
    )
    return question, render_similar


def _locate(place: int, part: str) -> str:
    return f"$.sentences[{place - 1}]{part}" if place else f"$.source{part}"


def render_similar(answered: Answered) -> Reply:
    """The answer as a body; what was embedded first is the source."""
    source_D: Any = answered.outcomes[0].answer.vector

    def compare(item: SimilarItem, answer: Embedding) -> None:
        # A unit vector's square differs from 1 by its rounding, and a cosine is never above 1.
        item.similarity = float(np.clip(source_D @ answer.vector, -1.0, 1.0))

    source = describe(Item(id=prediction_id(answered, 0)), answered.outcomes[0])
    return encoded(
        SimilarityResponse(
            id=answered.id,
            model=model_name(answered),
            usage=Usage(tokens=answered.tokens),
            source=source,
            items=items_of(answered, SimilarItem, compare, first=1),
        )
    )


_FACTS = {
    "tokens": 7,
    "total_tokens": 7,
    "truncated": False,
    "windows": 1,
    "language": {"code": "en", "confidence": 0.9},
}
SIMILARITY = Inference(
    path="/v1/similarity",
    method="POST",
    summary="Compare a sentence with others",
    description="Needs a model that embeds. The source and each sentence are embedded once.",
    problem=native_problem,
    request=SimilarityRequest,
    response=SimilarityResponse,
    example={"source": "Where is my parcel?", "sentences": ["¿Dónde está mi paquete?", "Hello"]},
    reply={
        "id": "5f0c3a9d1b7e2468",
        "model": {"name": "sentences", "version": "1", "digest": "9f86d081…"},
        "usage": {"tokens": 21},
        "source": {"id": "5f0c3a9d1b7e2468-0", **_FACTS},
        "items": [
            {"id": "5f0c3a9d1b7e2468-1", **_FACTS, "similarity": 0.93},
            {"id": "5f0c3a9d1b7e2468-2", **_FACTS, "similarity": 0.78},
        ],
    },
    task="embed",
    ask=ask_similarity,
)
