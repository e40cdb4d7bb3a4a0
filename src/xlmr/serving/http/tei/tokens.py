"""`/tokenize` and `/decode`: texts as tokens and back; no model is run."""

from __future__ import annotations

from typing import Any

import msgspec

from xlmr.serving.dataplane import Answered, DetokenizeOptions, Question, TokenizeOptions
from xlmr.serving.defaults import any_model
from xlmr.serving.http.bodies import Decoder, one_or_many
from xlmr.serving.http.endpoint import Call
from xlmr.serving.http.problems import Reply
from xlmr.serving.http.tei.inference import Asked, some
from xlmr.serving.http.tei.requests import TeiDecodeRequest, TeiSimpleToken, TeiTokenizeRequest

_decode_tokenize = Decoder(TeiTokenizeRequest)
_decode_decode = Decoder(TeiDecodeRequest)
_encoder = msgspec.json.Encoder()


def ask_tokenize(call: Call) -> Asked:
    """The body as a question.

    Raises:
        BadJsonError: not JSON.
        EmptyError: no texts.
        InputError: JSON of another shape.
    """
    request = _decode_tokenize(call.body)
    items, listed = one_or_many(some(request.inputs, "$.inputs"), "$.inputs")
    question = Question(
        id=call.id,
        task="tokenize",
        items=items,
        options=TokenizeOptions(long="whole", prompt=request.prompt_name or ""),
        model=_any(call, request.model),
        path="$.inputs",
        listed=listed,
        partial=False,
    )

    def render(answered: Answered) -> Reply:
        tokens = []
        for outcome in answered.outcomes:
            # Behind a prompt offsets count from its start: what stands there is told by the piece.
            text = None if request.prompt_name else outcome.answer.text
            tokens.append(_tokens(outcome.answer, text, request.add_special_tokens))
        return Reply(_encoder.encode(tokens))

    return question, render


def ask_decode(call: Call) -> Asked:
    """As `ask_tokenize`, the other way."""
    request = _decode_decode(call.body)
    items, listed = one_or_many(some(request.ids, "$.ids"), "$.ids")
    question = Question(
        id=call.id,
        task="detokenize",
        items=items,
        options=DetokenizeOptions(skip_special=request.skip_special_tokens),
        model=_any(call, request.model),
        path="$.ids",
        listed=listed,
        partial=False,
    )
    return question, render_texts


def render_texts(answered: Answered) -> Reply:
    """`[str]`, one for each list of ids."""
    return Reply(_encoder.encode([outcome.answer.text for outcome in answered.outcomes]))


def _any(call: Call, model: str | None) -> str | None:
    assert call.plane is not None
    return any_model(call.plane.pool, model)


def _tokens(answer: Any, text: str | None, with_special: bool) -> list[TeiSimpleToken]:
    encoding = answer.encoding
    tokens = []
    for id, piece, (start, stop), segment in zip(
        encoding.ids, answer.pieces, encoding.offsets, encoding.segments, strict=True
    ):
        special = segment < 0
        if special and not with_special:
            continue
        tokens.append(
            TeiSimpleToken(
                id=id,
                text=piece if special or text is None else text[start:stop],
                special=special,
                start=None if special else start,
                stop=None if special else stop,
            )
        )
    return tokens
