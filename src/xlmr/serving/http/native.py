"""The native door: `POST /v1/classify`. Says of every text what became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from xlmr.errors import InputError
from xlmr.serving.dataplane import Answered, ClassifyOptions, Outcome, Question
from xlmr.serving.http.bodies import Decoder
from xlmr.serving.http.endpoint import Call, Inference
from xlmr.serving.http.problems import Reply, native_problem
from xlmr.types import LabelScore


class ClassifyRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One text or several. `model` may be left out where one loaded model classifies."""

    input: str | list[str]
    model: str | None = None
    top: int | None = None
    long: Literal["truncate", "window", "error"] = "truncate"


class ModelName(msgspec.Struct, kw_only=True):
    """Which model answered: its name and the SHA-256 of its content."""

    name: str
    digest: str


class DetectedLanguage(msgspec.Struct, kw_only=True):
    """ISO 639 code, `und` where nothing sure can be said, and how sure (0 to 1)."""

    code: str
    confidence: float


class ItemError(msgspec.Struct, kw_only=True):
    """Why one text got no answer."""

    code: str
    message: str
    path: str


class ClassifiedItem(msgspec.Struct, kw_only=True):
    """A text's labels, likeliest first, and how much of the text was read. Or its `error` alone.

    `calibrated`: the scores are honest probabilities, by what the model was shown. `abstained`:
    the model is less sure than the risk it was given allows; absent where it was given none.
    `chosen`: of a multi-label model, the labels whose score reaches their threshold.
    """

    labels: tuple[LabelScore, ...] | UnsetType = UNSET
    chosen: tuple[str, ...] | UnsetType = UNSET
    calibrated: bool | UnsetType = UNSET
    abstained: bool | UnsetType = UNSET
    tokens: int | UnsetType = UNSET
    total_tokens: int | UnsetType = UNSET
    truncated: bool | UnsetType = UNSET
    windows: int | UnsetType = UNSET
    language: DetectedLanguage | UnsetType = UNSET
    error: ItemError | UnsetType = UNSET


class Usage(msgspec.Struct, kw_only=True):
    """Tokens the model computed."""

    tokens: int


class ClassifyResponse(msgspec.Struct, kw_only=True):
    """One item per text, in order."""

    id: str
    model: ModelName
    items: list[ClassifiedItem]
    usage: Usage


_decode = Decoder(ClassifyRequest)
_encoder = msgspec.json.Encoder()


def ask_classify(call: Call) -> tuple[Question, Callable[[Answered], Reply]]:
    """The body as a question.

    Raises:
        BadJsonError: not JSON.
        InputError: JSON of another shape.
    """
    request = _decode(call.body)
    if request.top is not None and request.top < 1:
        raise InputError("expected at least 1", path="$.top")
    question = Question(
        id=call.id,
        task="classify",
        items=request.input if isinstance(request.input, list) else [request.input],
        options=ClassifyOptions(top=request.top, long=request.long),
        model=request.model,
        listed=isinstance(request.input, list),
    )
    return question, render_classified


def render_classified(answered: Answered) -> Reply:
    """The answer as a body."""
    response = ClassifyResponse(
        id=answered.id,
        model=ModelName(name=answered.model.name, digest=answered.model.digest),
        items=[_item(outcome) for outcome in answered.outcomes],
        usage=Usage(tokens=answered.tokens),
    )
    return Reply(_encoder.encode(response))


def _item(outcome: Outcome) -> ClassifiedItem:
    if outcome.error is not None:
        error = outcome.error
        path = error.path if isinstance(error, InputError) else ""
        return ClassifiedItem(error=ItemError(code=error.code, message=error.message, path=path))
    answer, language = outcome.answer, outcome.language
    assert language is not None
    return ClassifiedItem(
        labels=answer.labels,
        chosen=UNSET if answer.chosen is None else answer.chosen,
        calibrated=answer.calibrated,
        abstained=UNSET if answer.abstained is None else answer.abstained,
        tokens=answer.accounting.tokens,
        total_tokens=answer.accounting.total_tokens,
        truncated=answer.accounting.truncated,
        windows=answer.accounting.windows,
        language=DetectedLanguage(code=language.code, confidence=round(language.confidence, 4)),
    )


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
    task="classify",
    ask=ask_classify,
)
