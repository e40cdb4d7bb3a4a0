"""Answers as the messages of `xlmr.v1`: one item for each text, its own error where it has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xlmr.errors import InputError, XlmrError
from xlmr.serving.dataplane import Answered, Outcome, Statement, prediction_id
from xlmr.serving.grpc.messages import native

Item = Callable[..., Any]
Fields = Mapping[str, Any]


def classified(answered: Answered) -> Any:
    """A `ClassifyResponse`."""

    def fields(answer: Any) -> Fields:
        said = {
            "labels": _labels(answer.labels),
            "chosen": answer.chosen or (),
            "calibrated": answer.calibrated,
        }
        return said if answer.abstained is None else said | {"abstained": answer.abstained}

    return _response(native.ClassifyResponse, answered, native.ClassifiedItem, fields)


def tagged(answered: Answered) -> Any:
    """A `TagResponse`."""

    def fields(answer: Any) -> Fields:
        return {
            "entities": [
                native.Entity(label=e.label, start=e.start, end=e.end, text=e.text, score=e.score)
                for e in answer.entities
            ]
        }

    return _response(native.TagResponse, answered, native.TaggedItem, fields)


def answered(answered: Answered) -> Any:
    """An `AnswerResponse`."""

    def fields(answer: Any) -> Fields:
        said = {
            "start": answer.start,
            "end": answer.end,
            "score": answer.score,
            "no_answer_score": answer.no_answer_score,
        }
        return said | {"answer": answer.text} if answer.text else said

    return _response(native.AnswerResponse, answered, native.AnsweredItem, fields)


def filled(answered: Answered) -> Any:
    """A `FillResponse`."""

    def fields(answer: Any) -> Fields:
        mask = native.FilledItem.Mask
        return {"masks": [mask(candidates=_labels(candidates)) for candidates in answer.masks]}

    return _response(native.FillResponse, answered, native.FilledItem, fields)


def embedded(answered: Answered) -> Any:
    """An `EmbedResponse`."""

    def fields(answer: Any) -> Fields:
        return {"vector": np.asarray(answer.vector, np.float32).tolist()}

    return _response(native.EmbedResponse, answered, native.EmbeddedItem, fields)


def ranked(answered: Answered, top: int) -> Any:
    """A `RerankResponse`, the best first and errors last; `top` documents, 0 for all."""
    items = _items(answered, native.RankedItem, lambda answer: {"score": answer.score})
    for place, item in enumerate(items):
        item.index = place
    items.sort(key=lambda item: (item.HasField("error"), -item.score))
    return native.RerankResponse(**_envelope(answered), items=items[: top or None])


def similar(answered: Answered) -> Any:
    """A `SimilarityResponse`; the first outcome is the source's."""
    source = answered.outcomes[0]

    def fields(answer: Any) -> Fields:
        cosine = float(np.dot(source.answer.vector, answer.vector))
        return {"similarity": min(1.0, max(-1.0, cosine))}

    items = _items(answered, native.SimilarItem, fields, first=1)
    return native.SimilarityResponse(
        **_envelope(answered), items=items, source=_facts(answered, 0, source)
    )


def tokenized(answered: Answered) -> Any:
    """A `TokenizeResponse`."""

    def fields(answer: Any) -> Fields:
        encoding = answer.encoding
        columns = zip(encoding.ids, answer.pieces, encoding.offsets, encoding.segments, strict=True)
        return {
            "tokens": [
                native.Token(id=id, piece=piece, start=start, end=end, segment=segment)
                for id, piece, (start, end), segment in columns
            ]
        }

    items = _items(answered, native.TokenizedItem, fields)
    model = _envelope(answered)["model"]
    return native.TokenizeResponse(id=answered.id, model=model, items=items)


def said(
    id: str, statements: Sequence[Statement], faults: Sequence[InputError | None], new: int
) -> Any:
    """A `FeedbackResponse`: what became of each statement, and how many were new."""
    items = [
        native.FeedbackItem(
            prediction=statement.prediction, error=None if fault is None else _error(fault)
        )
        for statement, fault in zip(statements, faults, strict=True)
    ]
    return native.FeedbackResponse(id=id, new=new, items=items)


def _response(
    response: Item, answered: Answered, item: Item, fields: Callable[[Any], Fields]
) -> Any:
    return response(**_envelope(answered), items=_items(answered, item, fields))


def _envelope(answered: Answered) -> dict[str, Any]:
    model = answered.model
    return {
        "id": answered.id,
        "model": native.Model(name=model.name, version=model.version, digest=model.digest),
        "tokens": answered.tokens,
    }


def _items(
    answered: Answered, item: Item, fields: Callable[[Any], Fields], *, first: int = 0
) -> list[Any]:
    items = []
    for place in range(first, len(answered.outcomes)):
        outcome = answered.outcomes[place]
        if outcome.error is not None:
            items.append(item(error=_error(outcome.error)))
        else:
            items.append(item(facts=_facts(answered, place, outcome), **fields(outcome.answer)))
    return items


def _facts(answered: Answered, place: int, outcome: Outcome) -> Any:
    account, language = outcome.answer.accounting, outcome.language
    said = native.Language(code=language.code, confidence=language.confidence) if language else None
    return native.Facts(
        id=prediction_id(answered, place),
        tokens=account.tokens,
        total_tokens=account.total_tokens,
        truncated=account.truncated,
        windows=account.windows,
        language=said,
    )


def _error(error: XlmrError) -> Any:
    path = error.path if isinstance(error, InputError) else ""
    return native.Error(code=error.code, message=error.message, path=path, hint=error.hint)


def _labels(labels: Sequence[Any]) -> list[Any]:
    return [native.LabelScore(label=label.label, score=label.score) for label in labels]
