"""The OpenAI door: `POST /v1/embeddings` and `GET /v1/models`, as OpenAI's clients expect them.

Beyond OpenAI's shape each vector says whether its text was truncated. Token ids are those of the
model's own vocabulary; they stand for the text they decode to, so prompts and limits apply to them
as to any text.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from xlmr.errors import InputError, ModelNotFoundError
from xlmr.serving.dataplane import Answered, Dataplane, EmbedOptions, Question
from xlmr.serving.http.bodies import Decoder
from xlmr.serving.http.endpoint import Call, Inference, Page
from xlmr.serving.http.problems import Reply, openai_problem


class EmbeddingsRequest(msgspec.Struct, kw_only=True):
    """A text, several texts, token ids, or several lists of token ids; other fields are ignored."""

    input: str | list[str | int | list[int]]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None


class EmbeddingItem(msgspec.Struct, kw_only=True):
    """A vector, as numbers or as base64 of little-endian float32."""

    object: str = "embedding"
    index: int
    embedding: list[float] | str
    truncated: bool


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


class ModelCard(msgspec.Struct, kw_only=True):
    """A loaded model; beyond OpenAI's fields, its digest and what it can be asked."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "xlmr"
    digest: str
    tasks: list[str]


class ModelList(msgspec.Struct, kw_only=True):
    """All loaded models."""

    object: str = "list"
    data: list[ModelCard]


_decode = Decoder(EmbeddingsRequest)
_encoder = msgspec.json.Encoder()


def ask_embeddings(call: Call) -> tuple[Question, Callable[[Answered], Reply]]:
    """The body as a question.

    Raises:
        BadJsonError: not JSON.
        InputError: JSON of another shape.
    """
    request = _decode(call.body)
    if request.dimensions is not None and request.dimensions < 1:
        raise InputError("expected at least 1", path="$.dimensions")
    items, listed = _items(request.input)
    question = Question(
        id=call.id,
        task="embed",
        items=items,
        options=EmbedOptions(dimensions=request.dimensions),
        model=request.model,
        listed=listed,
        partial=False,
    )
    render = _render_base64 if request.encoding_format == "base64" else _render_floats
    return question, render


def _items(given: str | list[Any]) -> tuple[Sequence[str | Sequence[int]], bool]:
    """The texts, and whether they were a list; a flat list of numbers is one text.

    Raises:
        InputError: a list of mixed kinds.
    """
    if isinstance(given, str):
        return [given], False
    if not given:
        return [], True
    kind = type(given[0])
    for index, item in enumerate(given):
        if type(item) is not kind:
            raise InputError(
                f"expected {_NAMES[kind]}, got {_NAMES[type(item)]}", path=f"$.input[{index}]"
            )
    return ([given], False) if kind is int else (given, True)


_NAMES = {str: "str", int: "int", list: "array"}


def _render_floats(answered: Answered) -> Reply:
    return _render(answered, lambda vector: vector.tolist())


def _render_base64(answered: Answered) -> Reply:
    return _render(answered, lambda vector: base64.b64encode(vector.astype("<f4")).decode())


def _render(answered: Answered, write: Callable[[Any], list[float] | str]) -> Reply:
    data = []
    for index, outcome in enumerate(answered.outcomes):
        vector = np.asarray(outcome.answer.vector, np.float32)
        truncated = outcome.answer.accounting.truncated
        data.append(EmbeddingItem(index=index, embedding=write(vector), truncated=truncated))
    usage = EmbeddingsUsage(prompt_tokens=answered.tokens, total_tokens=answered.tokens)
    response = EmbeddingsResponse(data=data, model=answered.model.name, usage=usage)
    return Reply(_encoder.encode(response))


def show_models(plane: Dataplane, call: Call) -> Reply:
    """All loaded models."""
    return Reply(_encoder.encode(ModelList(data=_cards(plane))))


def show_model(plane: Dataplane, call: Call) -> Reply:
    """One of them.

    Raises:
        ModelNotFoundError: none of that name.
    """
    for card in _cards(plane):
        if card.id == call.path_params["model"]:
            return Reply(_encoder.encode(card))
    raise ModelNotFoundError("no model of that name", hint="GET /v1/models lists them")


def _cards(plane: Dataplane) -> list[ModelCard]:
    return [
        ModelCard(id=model.ref.name, digest=model.ref.digest, tasks=sorted(model.tasks))
        for model in plane.pool.models.values()
    ]


EMBEDDINGS = Inference(
    path="/v1/embeddings",
    method="POST",
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
    task="embed",
    ask=ask_embeddings,
)
MODELS = Page(
    path="/v1/models",
    method="GET",
    summary="List the loaded models",
    problem=openai_problem,
    response=ModelList,
    show=show_models,
)
MODEL = Page(
    path="/v1/models/{model}",
    method="GET",
    summary="Show one loaded model",
    problem=openai_problem,
    response=ModelCard,
    show=show_model,
)
