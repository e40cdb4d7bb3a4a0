"""The OpenAI door: `POST /v1/embeddings`, as OpenAI's clients expect it.

Beyond OpenAI's shape each vector says what became of its text. Token ids are those of the model's
own vocabulary; they stand for the text they decode to, so prompts and limits apply to them as to
any text.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from xlmr.serving.dataplane import Answered, EmbedOptions, Question
from xlmr.serving.http.bodies import Decoder, one_or_many
from xlmr.serving.http.endpoint import Call, Inference
from xlmr.serving.http.problems import Reply, openai_problem
from xlmr.serving.http.verbs.items import Item, describe, encoded, prediction_id


class EmbeddingsRequest(msgspec.Struct, kw_only=True):
    """A text, several texts, token ids, or several lists of token ids; other fields are ignored.

    Beyond OpenAI's fields: `prompt`, the name of one of the model's prompts, null for its default;
    `long`, what becomes of a text longer than the model reads.
    """

    input: str | Annotated[list[str | int | list[int]], Meta(min_length=1)]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: str | None = None
    prompt: str | None = None
    long: Literal["truncate", "window", "error"] = "truncate"


class EmbeddingItem(Item, kw_only=True):
    """A vector, as numbers or as base64 of little-endian float32, and how much was read."""

    object: str = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(msgspec.Struct, kw_only=True):
    """Tokens the model computed; an embedding has no others."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(msgspec.Struct, kw_only=True):
    """One vector per text, in order."""

    object: str = "list"
    data: list[EmbeddingItem]
    model: str
    usage: EmbeddingsUsage
    id: str
    model_version: str
    model_digest: str


_decode = Decoder(EmbeddingsRequest)


def ask_embeddings(call: Call) -> tuple[Question, Callable[[Answered], Reply]]:
    """The body as a question.

    Raises:
        BadJsonError: not JSON.
        InputError: JSON of another shape.
    """
    request = _decode(call.body)
    items, listed = one_or_many(request.input)
    question = Question(
        id=call.id,
        task="embed",
        items=items,
        options=EmbedOptions(
            dimensions=request.dimensions, prompt=request.prompt, long=request.long
        ),
        model=request.model,
        listed=listed,
        partial=False,
    )
    render = _render_base64 if request.encoding_format == "base64" else _render_floats
    return question, render


def _render_floats(answered: Answered) -> Reply:
    return _render(answered, lambda vector: vector.tolist())


def _render_base64(answered: Answered) -> Reply:
    return _render(answered, lambda vector: base64.b64encode(vector.astype("<f4")).decode())


def _render(answered: Answered, write: Callable[[Any], list[float] | str]) -> Reply:
    data = []
    for index, outcome in enumerate(answered.outcomes):
        vector = np.asarray(outcome.answer.vector, np.float32)
        item = EmbeddingItem(
            id=prediction_id(answered, index), index=index, embedding=write(vector)
        )
        data.append(describe(item, outcome))
    model = answered.model
    return encoded(
        EmbeddingsResponse(
            data=data,
            model=model.name,
            usage=EmbeddingsUsage(prompt_tokens=answered.tokens, total_tokens=answered.tokens),
            id=answered.id,
            model_version=model.version,
            model_digest=model.digest,
        )
    )


EMBEDDINGS = Inference(
    path="/v1/embeddings",
    method="POST",
    door="openai",
    summary="Embed texts (OpenAI's shape)",
    description=(
        "Works with OpenAI's clients. Token ids must be the model's own; they are read as the text "
        "they decode to. If one text cannot be embedded, the request is refused and the error "
        "names that text. `usage` counts the tokens computed, special ones and the model's prompt "
        "included."
    ),
    problem=openai_problem,
    request=EmbeddingsRequest,
    response=EmbeddingsResponse,
    example={"input": "Wie viel Eiweiß braucht ein Mensch?"},
    reply={
        "object": "list",
        "data": [
            {
                "id": "5f0c3a9d1b7e2468-0",
                "tokens": 13,
                "total_tokens": 13,
                "truncated": False,
                "windows": 1,
                "language": {"code": "de", "confidence": 0.9997},
                "object": "embedding",
                "index": 0,
                "embedding": [0.0531, -0.0312, 0.0127],
            }
        ],
        "model": "sentences",
        "usage": {"prompt_tokens": 13, "total_tokens": 13},
        "id": "5f0c3a9d1b7e2468",
        "model_version": "1",
        "model_digest": "9f86d081…",
    },
    task="embed",
    ask=ask_embeddings,
)
