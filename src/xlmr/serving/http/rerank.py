"""The rerank door: `POST /v1/rerank`, in the shape that Cohere's and Jina's clients know, and
`POST /v2/rerank`, where Cohere's newer client sends the same.

Beyond that shape each result says how much of its document was read, and a document that cannot be
read is named in `errors` instead of failing its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from xlmr.serving.dataplane import Answered, Question, RerankOptions
from xlmr.serving.http.bodies import Decoder
from xlmr.serving.http.endpoint import Call, Inference
from xlmr.serving.http.problems import Reply, openai_problem
from xlmr.serving.http.verbs.items import (
    Item,
    ItemError,
    describe,
    encoded,
    item_error,
    prediction_id,
)


class Document(msgspec.Struct, kw_only=True):
    """A document as an object; other fields are ignored."""

    text: str


class RerankRequest(msgspec.Struct, kw_only=True):
    """A query, and the documents to put in order; other fields are ignored.

    `top_n`: how many results are given; all where it is left out. `long`: what becomes of a
    document longer than the model reads. `raw_scores`: the outputs themselves.
    """

    query: str
    documents: Annotated[list[str | Document], Meta(min_length=1)]
    model: str | None = None
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None
    long: Literal["truncate", "window", "error"] = "truncate"
    raw_scores: bool = False


class RerankResult(Item, kw_only=True):
    """A document by its place in the request, and how well it answers the query (0 to 1)."""

    index: int
    relevance_score: float
    document: Document | UnsetType = UNSET


class RerankFault(msgspec.Struct, kw_only=True):
    """A document that has no result, and why."""

    id: str
    index: int
    error: ItemError


class RerankUsage(msgspec.Struct, kw_only=True):
    """Tokens the model computed: the query's count once for each document."""

    prompt_tokens: int
    total_tokens: int


class RerankResponse(msgspec.Struct, kw_only=True):
    """The most relevant documents first; `errors` only where there are some."""

    id: str
    object: str = "list"
    model: str
    model_version: str
    model_digest: str
    results: list[RerankResult]
    errors: list[RerankFault] | UnsetType = UNSET
    usage: RerankUsage


_decode = Decoder(RerankRequest)


def ask_rerank(call: Call) -> tuple[Question, Callable[[Answered], Reply]]:
    """The body as a question.

    Raises:
        BadJsonError: not JSON.
        InputError: JSON of another shape.
    """
    request = _decode(call.body)
    documents = [one if isinstance(one, str) else one.text for one in request.documents]
    question = Question(
        id=call.id,
        task="rerank",
        items=documents,
        options=RerankOptions(
            query=request.query, raw_scores=request.raw_scores, long=request.long
        ),
        model=request.model,
        path="$.documents",
    )
    shown = documents if request.return_documents else None
    return question, lambda answered: _render(answered, request.top_n, shown)


def _render(answered: Answered, top_n: int | None, documents: list[str] | None) -> Reply:
    scored = [
        (outcome.answer.score, index)
        for index, outcome in enumerate(answered.outcomes)
        if outcome.error is None
    ]
    scored.sort(key=lambda pair: -pair[0])
    results = [
        describe(
            RerankResult(
                id=prediction_id(answered, index),
                index=index,
                relevance_score=score,
                document=UNSET if documents is None else Document(text=documents[index]),
            ),
            answered.outcomes[index],
        )
        for score, index in scored[:top_n]
    ]
    faults = [
        RerankFault(id=prediction_id(answered, index), index=index, error=item_error(outcome.error))
        for index, outcome in enumerate(answered.outcomes)
        if outcome.error is not None
    ]
    model = answered.model
    return encoded(
        RerankResponse(
            id=answered.id,
            model=model.name,
            model_version=model.version,
            model_digest=model.digest,
            results=results,
            errors=faults or UNSET,
            usage=RerankUsage(prompt_tokens=answered.tokens, total_tokens=answered.tokens),
        )
    )


_FACTS = {
    "tokens": 16,
    "total_tokens": 16,
    "truncated": False,
    "windows": 1,
    "language": {"code": "de", "confidence": 0.9912},
}
RERANK = Inference(
    path="/v1/rerank",
    method="POST",
    door="rerank",
    summary="Put documents in order of relevance (Cohere's and Jina's shape)",
    description=(
        "Works with Cohere's and Jina's clients. Query and document are read together. A document "
        "that cannot be read stands in `errors`; only where none can is the request refused."
    ),
    problem=openai_problem,
    request=RerankRequest,
    response=RerankResponse,
    example={
        "query": "Wie viel Eiweiß braucht ein Mensch?",
        "documents": ["0,8 g pro Kilogramm Körpergewicht am Tag.", "Es regnet."],
        "top_n": 1,
    },
    reply={
        "id": "5f0c3a9d1b7e2468",
        "object": "list",
        "model": "reranker",
        "model_version": "2",
        "model_digest": "9f86d081…",
        "results": [{"id": "5f0c3a9d1b7e2468-0", **_FACTS, "index": 0, "relevance_score": 0.97}],
        "usage": {"prompt_tokens": 29, "total_tokens": 29},
    },
    task="rerank",
    ask=ask_rerank,
)
RERANK_V2 = replace(RERANK, path="/v2/rerank")
OPERATIONS = (RERANK, RERANK_V2)
