"""`POST /v1/tokenize` and `/v1/detokenize`: what the model reads, without running it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from xlmr.serving.dataplane import (
    Answered,
    Dataplane,
    Detokenized,
    DetokenizeOptions,
    Question,
    TokenizeOptions,
    Tokens,
)
from xlmr.serving.http.bodies import Decoder, one_or_many
from xlmr.serving.http.endpoint import Call, Inference
from xlmr.serving.http.problems import Reply, native_problem
from xlmr.serving.http.verbs.items import Item, NativeResponse, as_list, renderer


class TokenizeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One text or several; `[[first, second]]` is one pair.

    `long`: texts longer than the model reads are cut as they would be for an answer, refused, or
    left `whole`. `prompt`: name of one of the model's prompts to put before single texts, null for
    its default; none unless asked for. Offsets then count from the prompt's first character.
    """

    input: str | Annotated[list[str | tuple[str, str]], Meta(min_length=1)]
    model: str | None = None
    long: Literal["truncate", "error", "whole"] = "truncate"
    prompt: str | None = ""


class TokenizedItem(Item, kw_only=True):
    """A text's tokens. Or its `error` alone.

    `offsets`: where each piece stands in its text, in Unicode characters; `[0, 0]` for special
    tokens. `segments`: 0 for the first text, 1 for the second of a pair, -1 for special tokens.
    """

    ids: tuple[int, ...] | UnsetType = UNSET
    pieces: tuple[str, ...] | UnsetType = UNSET
    offsets: tuple[tuple[int, int], ...] | UnsetType = UNSET
    segments: tuple[int, ...] | UnsetType = UNSET


class TokenizeResponse(NativeResponse, kw_only=True):
    """One item per text, in order. No model was run, so `usage` is 0."""

    items: list[TokenizedItem]


class DetokenizeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Token ids of one text, or lists of them. `skip_special`: special tokens say nothing."""

    input: Annotated[list[int | list[int]], Meta(min_length=1)]
    model: str | None = None
    skip_special: bool = True


class DetokenizedItem(Item, kw_only=True):
    """The text as the tokenizer normalises it. Or the `error` of these ids alone."""

    text: str | UnsetType = UNSET


class DetokenizeResponse(NativeResponse, kw_only=True):
    """One item per list of ids, in order. No model was run, so `usage` is 0."""

    items: list[DetokenizedItem]


_decode_tokenize = Decoder(TokenizeRequest)
_decode_detokenize = Decoder(DetokenizeRequest)


def ask_tokenize(call: Call) -> tuple[Question, Callable[[Answered], Reply]]:
    """The body as a question.

    Raises:
        BadJsonError: not JSON.
        InputError: JSON of another shape.
    """
    request = _decode_tokenize(call.body)
    items, listed = as_list(request.input)
    question = Question(
        id=call.id,
        task="tokenize",
        items=items,
        options=TokenizeOptions(long=request.long, prompt=request.prompt),
        model=request.model,
        listed=listed,
    )
    return question, render_tokenized


def ask_detokenize(call: Call) -> tuple[Question, Callable[[Answered], Reply]]:
    """The body as a question; raises as `ask_tokenize`."""
    request = _decode_detokenize(call.body)
    items, listed = one_or_many(request.input)
    question = Question(
        id=call.id,
        task="detokenize",
        items=items,
        options=DetokenizeOptions(skip_special=request.skip_special),
        model=request.model,
        listed=listed,
    )
    return question, render_detokenized


def _show_tokens(item: TokenizedItem, answer: Tokens) -> None:
    item.ids = answer.encoding.ids
    item.pieces = answer.pieces
    item.offsets = answer.encoding.offsets
    item.segments = answer.encoding.segments


def _show_text(item: DetokenizedItem, answer: Detokenized) -> None:
    item.text = answer.text


render_tokenized = renderer(TokenizeResponse, TokenizedItem, _show_tokens)
render_detokenized = renderer(DetokenizeResponse, DetokenizedItem, _show_text)

_FACTS = {
    "id": "5f0c3a9d1b7e2468-0",
    "tokens": 5,
    "total_tokens": 5,
    "truncated": False,
    "windows": 1,
    "language": {"code": "en", "confidence": 0.8},
}
_ENVELOPE = {
    "id": "5f0c3a9d1b7e2468",
    "model": {"name": "router", "version": "3", "digest": "9f86d081…"},
    "usage": {"tokens": 0},
}
TOKENIZE = Inference(
    path="/v1/tokenize",
    method="POST",
    summary="Show texts as tokens",
    description=(
        "One item per text, in order, as any task would read it. `tokens` is what a text counts; "
        "no model is run."
    ),
    problem=native_problem,
    request=TokenizeRequest,
    response=TokenizeResponse,
    example={"input": "Hello world!"},
    reply={
        **_ENVELOPE,
        "items": [
            {
                **_FACTS,
                "ids": [0, 35378, 8999, 38, 2],
                "pieces": ["<s>", "▁Hello", "▁world", "!", "</s>"],
                "offsets": [[0, 0], [0, 5], [6, 11], [11, 12], [0, 0]],
                "segments": [-1, 0, 0, 0, -1],
            }
        ],
    },
    task="tokenize",
    ask=ask_tokenize,
    verb=Dataplane.tokenize,
)
DETOKENIZE = Inference(
    path="/v1/detokenize",
    method="POST",
    summary="Show token ids as text",
    description="One item per list of ids, in order. No model is run.",
    problem=native_problem,
    request=DetokenizeRequest,
    response=DetokenizeResponse,
    example={"input": [0, 5, 6, 2]},
    reply={**_ENVELOPE, "items": [{**_FACTS, "text": "Hello world!"}]},
    task="detokenize",
    ask=ask_detokenize,
    verb=Dataplane.tokenize,
)
