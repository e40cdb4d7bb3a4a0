"""`POST /v1/classify` and `POST /v1/zero-shot`: labels with scores, trained ones or named ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from xlmr.serving.dataplane import Answered, ClassifyOptions, Question, ZeroShotOptions
from xlmr.serving.http.bodies import Decoder
from xlmr.serving.http.endpoint import Call, Inference
from xlmr.serving.http.problems import Reply, native_problem
from xlmr.serving.http.verbs.items import (
    DetectedLanguage,
    Item,
    NativeResponse,
    as_list,
    renderer,
)
from xlmr.types import Classification, LabelScore


class ClassifyRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One text or several; `[[first, second]]` is one pair, for models trained on pairs.

    `model` may be left out where one loaded model classifies. `top`: how many labels are shown.
    `long`: what becomes of a text longer than the model reads. `languages`: of each text, where you
    know them; otherwise they are identified. `raw_scores`: the outputs themselves, not calibrated.
    """

    input: str | Annotated[list[str | tuple[str, str]], Meta(min_length=1)]
    model: str | None = None
    top: Annotated[int, Meta(ge=1)] | None = None
    long: Literal["truncate", "window", "error"] = "truncate"
    languages: list[str] | None = None
    raw_scores: bool = False


class ClassifiedItem(Item, kw_only=True):
    """A text's labels, likeliest first. Or its `error` alone.

    `calibrated`: the scores are honest probabilities, by what the model was shown. `abstained`:
    the model is less sure than the risk it was given allows; absent where it was given none.
    `chosen`: of a multi-label model, the labels whose score reaches their threshold.
    """

    labels: tuple[LabelScore, ...] | UnsetType = UNSET
    chosen: tuple[str, ...] | UnsetType = UNSET
    calibrated: bool | UnsetType = UNSET
    abstained: bool | UnsetType = UNSET


class ClassifyResponse(NativeResponse, kw_only=True):
    """One item per text, in order."""

    items: list[ClassifiedItem]


class ZeroShotRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One text or several, and the labels to choose from.

    `template`: the sentence whose truth is judged; its first `{}` becomes the label.
    `multi_label`: whether several labels may fit one text.
    """

    input: str | Annotated[list[str], Meta(min_length=1)]
    labels: Annotated[list[str], Meta(min_length=1)]
    model: str | None = None
    template: str = "This example is {}."
    multi_label: bool = False
    long: Literal["truncate", "window", "error"] = "truncate"


_decode_classify = Decoder(ClassifyRequest)
_decode_zero_shot = Decoder(ZeroShotRequest)


def ask_classify(call: Call) -> tuple[Question, Callable[[Answered], Reply]]:
    """The body as a question.

    Raises:
        BadJsonError: not JSON.
        InputError: JSON of another shape.
    """
    request = _decode_classify(call.body)
    items, listed = as_list(request.input)
    question = Question(
        id=call.id,
        task="classify",
        items=items,
        options=ClassifyOptions(
            top=request.top,
            long=request.long,
            raw_scores=request.raw_scores,
            languages=request.languages,
        ),
        model=request.model,
        listed=listed,
    )
    return question, render_classified


def ask_zero_shot(call: Call) -> tuple[Question, Callable[[Answered], Reply]]:
    """The body as a question; raises as `ask_classify`."""
    request = _decode_zero_shot(call.body)
    items, listed = as_list(request.input)
    question = Question(
        id=call.id,
        task="zero_shot",
        items=items,
        options=ZeroShotOptions(
            labels=request.labels,
            template=request.template,
            multi_label=request.multi_label,
            long=request.long,
        ),
        model=request.model,
        listed=listed,
    )
    return question, render_classified


def _answer(item: ClassifiedItem, answer: Classification) -> None:
    item.labels = answer.labels
    item.calibrated = answer.calibrated
    if answer.chosen is not None:
        item.chosen = answer.chosen
    if answer.abstained is not None:
        item.abstained = answer.abstained
    assert isinstance(item.language, DetectedLanguage)
    if answer.language is not None and answer.language != item.language.code:
        # The caller knows better, and the scores went by what they said.
        item.language = DetectedLanguage(code=answer.language, confidence=1.0)


render_classified = renderer(ClassifyResponse, ClassifiedItem, _answer)

CLASSIFY = Inference(
    path="/v1/classify",
    method="POST",
    summary="Classify texts",
    description=(
        "One item per text, in order, each with its labels (likeliest first), the language of the "
        "text, and how much of it was read. A text that cannot be answered gets an `error` in its "
        "place; the others get their answers. Only where none can be answered is the request "
        "refused."
    ),
    problem=native_problem,
    request=ClassifyRequest,
    response=ClassifyResponse,
    example={"input": ["أين طلبي؟", "返金をお願いします"], "top": 2},
    reply={
        "id": "5f0c3a9d1b7e2468",
        "model": {"name": "router", "version": "3", "digest": "9f86d081…"},
        "usage": {"tokens": 11},
        "items": [
            {
                "id": "5f0c3a9d1b7e2468-0",
                "tokens": 6,
                "total_tokens": 6,
                "truncated": False,
                "windows": 1,
                "language": {"code": "ar", "confidence": 0.9973},
                "labels": [
                    {"label": "delivery", "score": 0.94},
                    {"label": "refund", "score": 0.04},
                ],
                "calibrated": True,
                "abstained": False,
            },
            {
                "id": "5f0c3a9d1b7e2468-1",
                "tokens": 5,
                "total_tokens": 5,
                "truncated": False,
                "windows": 1,
                "language": {"code": "ja", "confidence": 1.0},
                "labels": [
                    {"label": "refund", "score": 0.97},
                    {"label": "delivery", "score": 0.02},
                ],
                "calibrated": True,
                "abstained": False,
            },
        ],
    },
    task="classify",
    ask=ask_classify,
)
ZERO_SHOT = Inference(
    path="/v1/zero-shot",
    method="POST",
    summary="Classify texts by labels nobody trained",
    description=(
        "Needs a model for natural language inference: every text is read once with each label, so "
        "`usage` grows with both. Items as `/v1/classify` gives them, with all labels."
    ),
    problem=native_problem,
    request=ZeroShotRequest,
    response=ClassifyResponse,
    example={"input": "Mein Paket ist weg.", "labels": ["delivery", "weather"]},
    reply={
        "id": "5f0c3a9d1b7e2468",
        "model": {"name": "nli", "version": "1", "digest": "9f86d081…"},
        "usage": {"tokens": 34},
        "items": [
            {
                "id": "5f0c3a9d1b7e2468-0",
                "tokens": 34,
                "total_tokens": 8,
                "truncated": False,
                "windows": 1,
                "language": {"code": "de", "confidence": 0.9998},
                "labels": [
                    {"label": "delivery", "score": 0.98},
                    {"label": "weather", "score": 0.02},
                ],
                "calibrated": False,
            }
        ],
    },
    task="zero_shot",
    ask=ask_zero_shot,
)
