"""Tasks that answer for places in a text: tag, answer, fill.

Each function checks its items, encodes them, and says how their vectors become answers.

Shapes: L tokens of one text or window, D hidden width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import InputError
from xlmr.model.heads.answer import AnswerHead, best_span
from xlmr.model.heads.fill import FillHead, top_pieces
from xlmr.model.heads.tag import TagHead, entities, merge_windows
from xlmr.model.prepared import AnswerOptions, FillOptions, Prepared, TagOptions
from xlmr.model.reading import (
    all_encodings,
    check_count,
    check_list,
    check_pairs,
    check_texts,
    each,
    read,
)
from xlmr.text.tokenizer import Tokenizer
from xlmr.types import Encoding, Filling, LabelScore, SpanAnswer, Tagging

Array = NDArray[np.float32]


def prepare_tag(
    tokenizer: Tokenizer,
    head: TagHead,
    items: Sequence[str | Sequence[str]],
    options: TagOptions,
) -> Prepared[Tagging]:
    """Texts to entities. An item may be a list of words: it is read joined by single spaces."""
    texts = _joined(items)
    readings = read(tokenizer, texts, long=options.long)

    def finish(vectors: Iterable[Array]) -> list[Tagging]:
        answers = []
        for text, (reading, hidden) in zip(texts, each(readings, vectors), strict=True):
            tokens = merge_windows(
                [encoding.offsets for encoding in reading.encodings],
                [encoding.segments for encoding in reading.encodings],
                [head.probabilities(hidden_LD) for hidden_LD in hidden],
            )
            found = tuple(entities(text, tokens, head.labels))
            answers.append(Tagging(entities=found, accounting=reading.accounting))
        return answers

    return Prepared(encodings=all_encodings(readings), rows="all", finish=finish)


def prepare_answer(
    tokenizer: Tokenizer,
    head: AnswerHead,
    items: Sequence[tuple[str, str]],
    options: AnswerOptions,
) -> Prepared[SpanAnswer]:
    """(question, context) pairs to spans of the context."""
    check_count(options.max_answer_tokens, "max_answer_tokens")
    pairs = check_pairs(items)
    readings = read(tokenizer, pairs, long=options.long)

    def finish(vectors: Iterable[Array]) -> list[SpanAnswer]:
        answers = []
        for (_, context), (reading, hidden) in zip(pairs, each(readings, vectors), strict=True):
            span = best_span(
                context,
                reading.encodings,
                [head.logits(hidden_LD) for hidden_LD in hidden],
                max_answer_tokens=options.max_answer_tokens,
                must_answer=options.must_answer,
            )
            answers.append(
                SpanAnswer(
                    text=context[span.start : span.end],
                    start=span.start,
                    end=span.end,
                    score=span.score,
                    no_answer_score=span.no_answer_score,
                    accounting=reading.accounting,
                )
            )
        return answers

    return Prepared(encodings=all_encodings(readings), rows="all", finish=finish)


def prepare_fill(
    tokenizer: Tokenizer, head: FillHead, items: Sequence[str], options: FillOptions
) -> Prepared[Filling]:
    """Texts with `<mask>` to candidates for each mask that was read."""
    check_count(options.top, "top", most=tokenizer.vocabulary_size)
    readings = read(tokenizer, check_texts(items), long="truncate")
    masks = [_masks(tokenizer, reading.encodings[0], i) for i, reading in enumerate(readings)]

    def candidates(hidden_D: Array) -> tuple[LabelScore, ...]:
        logits_V = head.logits(hidden_D)[: tokenizer.vocabulary_size]
        return tuple(
            LabelScore(label=tokenizer.decode([piece]) or tokenizer.piece(piece), score=score)
            for piece, score in top_pieces(logits_V, options.top)
        )

    def finish(vectors: Iterable[Array]) -> list[Filling]:
        return [
            Filling(
                masks=tuple(candidates(hidden_LD[i]) for i in places),
                accounting=reading.accounting,
            )
            for places, (reading, [hidden_LD]) in zip(masks, each(readings, vectors), strict=True)
        ]

    return Prepared(encodings=all_encodings(readings), rows="all", finish=finish)


def _masks(tokenizer: Tokenizer, encoding: Encoding, item: int) -> list[int]:
    places = [i for i, token in enumerate(encoding.ids) if token == tokenizer.mask_id]
    if not places:
        cut = " in the part that the model reads" if encoding.truncated else ""
        raise InputError(f"no <mask>{cut}", path=f"$[{item}]")
    return places


def _joined(items: Sequence[str | Sequence[str]]) -> list[str]:
    texts = []
    for i, item in enumerate(check_list(items)):
        if isinstance(item, str) or not isinstance(item, Sequence):
            texts.append(item)
            continue
        for j, word in enumerate(item):
            if not isinstance(word, str):
                raise InputError(f"expected str, got {type(word).__name__}", path=f"$[{i}][{j}]")
        texts.append(" ".join(item))
    return check_texts(texts)
