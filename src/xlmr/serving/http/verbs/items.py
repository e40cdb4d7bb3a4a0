"""What every native answer says of every text: which prediction it is and how much was read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from xlmr.errors import InputError, XlmrError
from xlmr.serving.dataplane import Answered, Outcome
from xlmr.serving.dataplane import prediction_id as prediction_id
from xlmr.serving.http.problems import Reply

ItemT = TypeVar("ItemT", bound="Item")


class ModelName(msgspec.Struct, kw_only=True):
    """Which model answered: its name, its version and the SHA-256 of its content."""

    name: str
    version: str
    digest: str


class DetectedLanguage(msgspec.Struct, kw_only=True):
    """ISO 639 code, `und` where nothing sure can be said, and how sure (0 to 1)."""

    code: str
    confidence: float


class ItemError(msgspec.Struct, kw_only=True):
    """Why one text got no answer; `path` is its place in the request's body."""

    code: str
    message: str
    path: str
    hint: str | UnsetType = UNSET


class Item(msgspec.Struct, kw_only=True):
    """What became of one text: its answer, or its `error` alone.

    `id` names the prediction. `tokens` were computed, `total_tokens` would be the whole text;
    special tokens count. `truncated`: some of the text was not read. `windows`: how many
    overlapping pieces a long text was read in.
    """

    id: str
    tokens: int | UnsetType = UNSET
    total_tokens: int | UnsetType = UNSET
    truncated: bool | UnsetType = UNSET
    windows: int | UnsetType = UNSET
    language: DetectedLanguage | UnsetType = UNSET
    error: ItemError | UnsetType = UNSET


class Usage(msgspec.Struct, kw_only=True):
    """Tokens the model computed for all texts together."""

    tokens: int


class NativeResponse(msgspec.Struct, kw_only=True):
    """The request's id and who answered."""

    id: str
    model: ModelName
    usage: Usage


_encoder = msgspec.json.Encoder()


def model_name(answered: Answered) -> ModelName:
    """Which model answered."""
    model = answered.model
    return ModelName(name=model.name, version=model.version, digest=model.digest)


def item_error(error: XlmrError) -> ItemError:
    """An error that is one text's own."""
    return ItemError(
        code=error.code,
        message=error.message,
        path=error.path if isinstance(error, InputError) else "",
        hint=error.hint or UNSET,
    )


def describe(item: ItemT, outcome: Outcome) -> ItemT:
    """Fills in what every answered text's item says."""
    accounting, language = outcome.answer.accounting, outcome.language
    assert language is not None
    item.tokens = accounting.tokens
    item.total_tokens = accounting.total_tokens
    item.truncated = accounting.truncated
    item.windows = accounting.windows
    item.language = DetectedLanguage(code=language.code, confidence=round(language.confidence, 4))
    return item


def items_of(
    answered: Answered, kind: type[ItemT], answer: Callable[[ItemT, Any], None], *, first: int = 0
) -> list[ItemT]:
    """One item per text from number `first` on; `answer` fills in what the task has to say."""
    items = []
    for place in range(first, len(answered.outcomes)):
        outcome = answered.outcomes[place]
        item = kind(id=prediction_id(answered, place))
        if outcome.error is not None:
            item.error = item_error(outcome.error)
        else:
            answer(describe(item, outcome), outcome.answer)
        items.append(item)
    return items


def renderer(
    response: Callable[..., Any], kind: type[ItemT], answer: Callable[[ItemT, Any], None]
) -> Callable[[Answered], Reply]:
    """Renders answers as a response of one item per text."""

    def render(answered: Answered) -> Reply:
        return encoded(
            response(
                id=answered.id,
                model=model_name(answered),
                usage=Usage(tokens=answered.tokens),
                items=items_of(answered, kind, answer),
            )
        )

    return render


def encoded(response: Any) -> Reply:
    """A message as a reply."""
    return Reply(_encoder.encode(response))


def as_list(given: Any) -> tuple[Sequence[Any], bool]:
    """The texts, and whether they were a list."""
    return (given, True) if isinstance(given, list) else ([given], False)
