"""`/embed`, `/embed_all`, `/predict`, `/rerank`, `/similarity`, and `POST /`, which is whichever of
them the model is for.

A reply is the bare list that clients expect; which texts were cut is said in `x-truncated`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from xlmr.errors import InputError, TaskError
from xlmr.serving.dataplane import (
    Answered,
    ClassifyOptions,
    EmbedOptions,
    Question,
    RerankOptions,
)
from xlmr.serving.defaults import meant_model, meant_task
from xlmr.serving.http.bodies import Decoder, one_or_many
from xlmr.serving.http.endpoint import Call
from xlmr.serving.http.problems import EmptyError, Reply
from xlmr.serving.http.tei.requests import (
    TeiAnyRequest,
    TeiEmbedAllRequest,
    TeiEmbedRequest,
    TeiPrediction,
    TeiPredictRequest,
    TeiRank,
    TeiRerankRequest,
    TeiSimilarityParameters,
    TeiSimilarityRequest,
    long_text,
)

Asked = tuple[Question, Callable[[Answered], Reply]]

_decode_embed = Decoder(TeiEmbedRequest)
_decode_embed_all = Decoder(TeiEmbedAllRequest)
_decode_predict = Decoder(TeiPredictRequest)
_decode_rerank = Decoder(TeiRerankRequest)
_decode_similarity = Decoder(TeiSimilarityRequest)
_decode_any = Decoder(TeiAnyRequest)
_encoder = msgspec.json.Encoder()


def ask_embed(call: Call) -> Asked:
    """The body as a question.

    Raises:
        BadJsonError: not JSON.
        EmptyError: no texts.
        InputError: JSON of another shape.
    """
    request = _decode_embed(call.body)
    options = EmbedOptions(
        prompt=request.prompt_name,
        dimensions=request.dimensions,
        normalize=request.normalize,
        long=long_text(request.truncate, request.truncation_direction),
    )
    return _embed_question(call, request, options), render_vectors


def ask_embed_all(call: Call) -> Asked:
    """As `ask_embed`, for the vector of each token."""
    request = _decode_embed_all(call.body)
    options = EmbedOptions(
        prompt=request.prompt_name,
        long=long_text(request.truncate, request.truncation_direction),
        each_token=True,
    )
    return _embed_question(call, request, options), render_vectors


def _embed_question(
    call: Call, request: TeiEmbedRequest | TeiEmbedAllRequest, options: EmbedOptions
) -> Question:
    items, listed = one_or_many(some(request.inputs, "$.inputs"), "$.inputs")
    return Question(
        id=call.id,
        task="embed",
        items=items,
        options=options,
        model=named(call, request.model, "embed"),
        path="$.inputs",
        listed=listed,
        partial=False,
    )


def ask_predict(call: Call) -> Asked:
    """As `ask_embed`, for labels with scores."""
    request = _decode_predict(call.body)
    items, listed = _sequences(request.inputs)
    raw = request.raw_scores or request.parameters.function_to_apply == "none"
    question = Question(
        id=call.id,
        task="classify",
        items=items,
        options=ClassifyOptions(
            top=request.parameters.top_k,
            raw_scores=raw,
            long=long_text(request.truncate, request.truncation_direction),
        ),
        model=named(call, request.model, "classify"),
        path="$.inputs",
        listed=listed,
        partial=False,
    )
    return question, _render_batch if listed else _render_single


def _sequences(given: str | list[Any]) -> tuple[list[str | tuple[str, str]], bool]:
    """Texts and pairs, and whether they were a batch: `["a", "b"]` is one pair, and no batch.

    Raises:
        EmptyError: none.
        InputError: a batch of mixed kinds, or a sequence of more than two.
    """
    if isinstance(given, str):
        return [given], False
    some(given, "$.inputs")
    batch = isinstance(given[0], list)
    for index, item in enumerate(given):
        if isinstance(item, list) is not batch:
            expected = "array, got str" if batch else "str, got array"
            raise InputError(f"expected {expected}", path=f"$.inputs[{index}]")
    if not batch:
        return [_sequence(given, "$.inputs")], False
    return [_sequence(item, f"$.inputs[{i}]") for i, item in enumerate(given)], True


def _sequence(texts: list[str], path: str) -> str | tuple[str, str]:
    if len(texts) == 1:
        return texts[0]
    if len(texts) == 2:
        return texts[0], texts[1]
    raise InputError(
        f"expected one text or a pair, got {len(texts)}",
        path=path,
        hint='a batch of texts is a list of lists: [["a"], ["b"]]',
    )


def ask_rerank(call: Call) -> Asked:
    """As `ask_embed`, for texts ranked by a query."""
    request = _decode_rerank(call.body)
    question = Question(
        id=call.id,
        task="rerank",
        items=some(request.texts, "$.texts"),
        options=RerankOptions(
            query=request.query,
            raw_scores=request.raw_scores,
            long=_long_pair(request),
        ),
        model=named(call, request.model, "rerank"),
        path="$.texts",
        partial=False,
    )

    def render(answered: Answered) -> Reply:
        ranks = [
            TeiRank(index=index, score=outcome.answer.score)
            for index, outcome in enumerate(answered.outcomes)
        ]
        ranks.sort(key=lambda rank: -rank.score)
        if request.return_text:
            for rank in ranks:
                rank.text = request.texts[rank.index]
        return _reply(ranks, answered)

    return question, render


def _long_pair(request: TeiRerankRequest) -> Any:
    long = long_text(request.truncate, request.truncation_direction)
    if long == "truncate_left":
        raise InputError(
            "query and text are cut at their ends, never at their starts",
            path="$.truncation_direction",
            hint="leave it out, or say right",
        )
    return long


def ask_similarity(call: Call) -> Asked:
    """As `ask_embed`, for the cosines between one sentence and others."""
    request = _decode_similarity(call.body)
    parameters = request.parameters or TeiSimilarityParameters()
    sentences = some(request.inputs.sentences, "$.inputs.sentences")
    question = Question(
        id=call.id,
        task="embed",
        items=[request.inputs.source_sentence, *sentences],
        options=EmbedOptions(
            prompt=parameters.prompt_name,
            normalize=True,
            long=long_text(parameters.truncate, parameters.truncation_direction),
        ),
        model=named(call, request.model, "embed"),
        path="$.inputs.sentences",
        partial=False,
        locate=_locate_sentence,
    )
    return question, _render_cosines


def _locate_sentence(place: int, part: str) -> str:
    return f"$.inputs.sentences[{place - 1}]{part}" if place else f"$.inputs.source_sentence{part}"


def ask_main(call: Call) -> Asked:
    """What the model is for: ranks for a body with a query, else labels or a vector.

    Raises:
        TaskError: the model is for something that this protocol has no words for.
        XlmrError: as the others.
    """
    request = _decode_any(call.body)
    if request.query is not None:
        return ask_rerank(call)
    assert call.plane is not None
    task = meant_task(call.plane.pool, request.model)
    ask = {"embed": ask_embed, "classify": ask_predict, "rerank": ask_rerank}.get(task)
    if ask is None:
        raise TaskError(
            f"the model is made to {task}, which this path cannot ask", hint="GET /docs"
        )
    return ask(call)


def named(call: Call, model: str | None, task: str) -> str | None:
    """The model that the question names."""
    assert call.plane is not None
    return meant_model(call.plane.pool, model, task)


def some(given: Any, path: str) -> Any:
    """What was given.

    Raises:
        EmptyError: an empty list.
    """
    if isinstance(given, list) and not given:
        raise EmptyError("expected at least one, got none", path=path)
    return given


def render_vectors(answered: Answered) -> Reply:
    """`[[f32]]`, or `[[[f32]]]` where each token has its vector."""
    vectors = [
        np.asarray(outcome.answer.vector, np.float32).tolist() for outcome in answered.outcomes
    ]
    return _reply(vectors, answered)


def _render_single(answered: Answered) -> Reply:
    return _reply(_predictions(answered)[0], answered)


def _render_batch(answered: Answered) -> Reply:
    return _reply(_predictions(answered), answered)


def _predictions(answered: Answered) -> list[list[TeiPrediction]]:
    return [
        [TeiPrediction(score=label.score, label=label.label) for label in outcome.answer.labels]
        for outcome in answered.outcomes
    ]


def _render_cosines(answered: Answered) -> Reply:
    source, *others = (outcome.answer.vector for outcome in answered.outcomes)
    cosines = [float(np.clip(np.dot(source, other), -1, 1)) for other in others]
    return _reply(cosines, answered)


def _reply(content: Sequence[Any], answered: Answered) -> Reply:
    reply = Reply(_encoder.encode(content))
    cut = [
        str(place)
        for place, outcome in enumerate(answered.outcomes)
        if outcome.answer.accounting.truncated
    ]
    return reply.with_header(b"x-truncated", ",".join(cut).encode()) if cut else reply
