"""Answers as bytes that hold no text, and back.

What an answer quotes of its text, or of labels the caller made up, is kept as places and read from
the request again: whoever gets hold of the bytes learns nothing that was written. Numbers come
back exactly as they were, so an answer from a cache is the same to the last bit.

The format is a byte for its version and a msgpack array; vectors and scores are little-endian
float32 in it, where that loses nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from xlmr.model.prepared import ClassifyOptions, ZeroShotOptions
from xlmr.types import (
    Accounting,
    Classification,
    Embedding,
    Entity,
    Filling,
    LabelScore,
    Language,
    Ranked,
    SpanAnswer,
    Tagging,
)

# Raise it with every change of the format or of what answers mean; it is part of each key as well.
FORMAT = 1

_VERSION = bytes([FORMAT])
_LANGUAGE_SAID = "="


class _Kind(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """The base of what is kept of an answer."""


class _Labels(_Kind, frozen=True, tag=1):
    """`labels` are names, or places in the caller's list where the caller made them up."""

    labels: list[str | int]
    scores: bytes
    language: str | None
    calibrated: bool
    abstained: bool | None
    chosen: list[str] | None
    entropy: float | None


class _Entities(_Kind, frozen=True, tag=2):
    labels: list[str]
    spans: list[tuple[int, int]]
    scores: bytes


class _Span(_Kind, frozen=True, tag=3):
    start: int
    end: int
    score: float
    no_answer_score: float


class _Vector(_Kind, frozen=True, tag=4):
    vector: bytes


class _Relevance(_Kind, frozen=True, tag=5):
    score: float


class _Candidates(_Kind, frozen=True, tag=6):
    labels: list[list[str]]
    scores: list[bytes]


_Kinds = _Labels | _Entities | _Span | _Vector | _Relevance | _Candidates


class _Kept(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """An answer, what became of its text, and its language."""

    accounting: tuple[int, int, bool, int, int]
    language: tuple[str, float]
    answer: _Kinds


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Kept)


def pack(answer: Any, language: Language, *, item: Any, options: Any) -> bytes | None:
    """The answer as bytes; None for one that this format cannot give back exactly.

    Args:
        answer: what the model said of the item.
        language: of the item.
        item: a text, a pair of texts, or words; what the answer quotes is looked up in it.
        options: what was asked of it.
    """
    kept = _kept(answer, item, options)
    if kept is None:
        return None
    a = answer.accounting
    accounting = (a.tokens, a.total_tokens, a.truncated, a.windows, a.unknown)
    known = _Kept(accounting, (language.code, language.confidence), kept)
    return _VERSION + _encoder.encode(known)


def unpack(data: bytes, *, item: Any, options: Any, place: int) -> tuple[Any, Language] | None:
    """The answer and the language; None for bytes that are none of ours or do not fit the request.

    `place` is the item's in its request.
    """
    if data[:1] != _VERSION:
        return None
    try:
        kept = _decoder.decode(memoryview(data)[1:])
        answer = _answer(kept.answer, Accounting(*kept.accounting), item, options, place)
    except (msgspec.DecodeError, struct.error, ValueError, IndexError):
        return None
    return answer, Language(*kept.language)


def _kept(answer: Any, item: Any, options: Any) -> _Kinds | None:
    match answer:
        case Classification():
            return _kept_labels(answer, options)
        case Embedding():
            vector = answer.vector
            if vector.dtype != np.float32 or vector.ndim != 1:
                return None
            return _Vector(vector.astype("<f4", copy=False).tobytes())
        case Ranked():
            return _Relevance(answer.score)
        case Tagging():
            return _kept_entities(answer, item)
        case SpanAnswer():
            if not _is_pair(item) or item[1][answer.start : answer.end] != answer.text:
                return None
            return _Span(answer.start, answer.end, answer.score, answer.no_answer_score)
        case Filling():
            return _Candidates(
                [[candidate.label for candidate in mask] for mask in answer.masks],
                [_floats([candidate.score for candidate in mask]) for mask in answer.masks],
            )
    return None


def _kept_labels(answer: Classification, options: Any) -> _Kinds | None:
    labels: Any = [label.label for label in answer.labels]
    if isinstance(options, ZeroShotOptions):
        place_of = {label: place for place, label in enumerate(options.labels)}
        if answer.chosen is not None or not place_of.keys() >= set(labels):
            return None
        labels = [place_of[label] for label in labels]
    language = answer.language
    if isinstance(options, ClassifyOptions) and options.languages is not None:
        # The caller's own word: it stands in the next request as well.
        language = _LANGUAGE_SAID
    return _Labels(
        labels,
        _floats([label.score for label in answer.labels]),
        language,
        answer.calibrated,
        answer.abstained,
        None if answer.chosen is None else list(answer.chosen),
        answer.entropy,
    )


def _kept_entities(answer: Tagging, item: Any) -> _Kinds | None:
    text = _text_of(item)
    if text is None or any(text[e.start : e.end] != e.text for e in answer.entities):
        return None
    return _Entities(
        [entity.label for entity in answer.entities],
        [(entity.start, entity.end) for entity in answer.entities],
        _floats([entity.score for entity in answer.entities]),
    )


def _answer(kept: _Kinds, accounting: Accounting, item: Any, options: Any, place: int) -> Any:
    match kept:
        case _Labels():
            return _labels(kept, accounting, options, place)
        case _Vector():
            return Embedding(np.frombuffer(kept.vector, "<f4"), accounting)
        case _Relevance():
            return Ranked(place, kept.score, accounting)
        case _Entities():
            return _tagging(kept, accounting, item)
        case _Span():
            if not _is_pair(item):
                raise ValueError("an answer to no question")
            text = item[1][kept.start : kept.end]
            return SpanAnswer(
                text, kept.start, kept.end, kept.score, kept.no_answer_score, accounting
            )
        case _Candidates():
            masks = tuple(
                tuple(map(LabelScore, labels, _unpacked(scores, len(labels))))
                for labels, scores in zip(kept.labels, kept.scores, strict=True)
            )
            return Filling(masks, accounting)


def _labels(kept: _Labels, accounting: Accounting, options: Any, place: int) -> Classification:
    labels: Sequence[Any] = kept.labels
    if isinstance(options, ZeroShotOptions):
        labels = [options.labels[int(number)] for number in kept.labels]
    language = kept.language
    if language == _LANGUAGE_SAID:
        language = options.languages[place]
    return Classification(
        tuple(map(LabelScore, labels, _unpacked(kept.scores, len(labels)))),
        accounting,
        language,
        kept.calibrated,
        kept.abstained,
        None if kept.chosen is None else tuple(kept.chosen),
        kept.entropy,
    )


def _tagging(kept: _Entities, accounting: Accounting, item: Any) -> Tagging:
    text = _text_of(item)
    if text is None:
        raise ValueError("entities of no text")
    scores = _unpacked(kept.scores, len(kept.spans))
    entities = tuple(
        Entity(label, start, end, text[start:end], score)
        for label, (start, end), score in zip(kept.labels, kept.spans, scores, strict=True)
    )
    return Tagging(entities, accounting)


def _text_of(item: Any) -> str | None:
    """The text entities were sought in; None for token ids, whose text only a tokenizer knows."""
    if isinstance(item, str):
        return item
    words = isinstance(item, Sequence) and all(isinstance(word, str) for word in item)
    return " ".join(item) if words else None


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and all(isinstance(t, str) for t in item)


def _floats(values: Sequence[float]) -> bytes:
    """Four bytes each where that is exact, which it is for everything a model computed; else 8."""
    try:
        narrow = struct.pack(f"<{len(values)}f", *values)
    except OverflowError:
        narrow = b""
    if len(narrow) == 4 * len(values) and struct.unpack(f"<{len(values)}f", narrow) == (*values,):
        return narrow
    return struct.pack(f"<{len(values)}d", *values)


def _unpacked(data: bytes, count: int) -> tuple[float, ...]:
    """As many numbers as there should be.

    Raises:
        struct.error: there are more or fewer.
    """
    wide = len(data) == 8 * count
    return struct.unpack(f"<{count}{'d' if wide else 'f'}", data)
