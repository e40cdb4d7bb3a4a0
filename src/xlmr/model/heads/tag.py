"""One vector per token becomes entities over words.

A word takes the label of its first token, as taggers are trained: the label of the tokens that
follow was never taught. An entity's score is the mean, over its words, of the probability that the
first token gave to the word's label.

Labels are read as BIO (IOB2): `B-PER` begins an entity, `I-PER` continues one; an `I-PER` with
nothing to continue begins one. BIOES and BILOU prefixes are read alike, and labels without a
prefix form an entity for as long as they repeat.

Shapes: L tokens of one window, C labels, D hidden width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.model.encoder import softmax
from xlmr.model.heads.classify import check_outputs
from xlmr.model.heads.labels import parse_labels
from xlmr.model.heads.words import words
from xlmr.model.weights import Weights
from xlmr.types import Entity

Array = NDArray[np.float32]

_OUTSIDE = "O"
_PREFIXED = re.compile(r"([BIESLU])-(.+)", re.DOTALL)


@dataclass(frozen=True)
class TagHead:
    """Hugging Face's token classification head: one linear map."""

    labels: tuple[str, ...]
    weight_CD: Array
    bias_C: Array

    @classmethod
    def open(cls, weights: Weights, raw_config: Mapping[str, Any]) -> TagHead:
        """Reads the head.

        Raises:
            WeightsError: the checkpoint lacks it.
            ModelRefusedError: its outputs are not as many as the labels.
        """
        labels = parse_labels(raw_config)
        weight_CD = weights.head("classifier.weight")
        check_outputs(weight_CD, len(labels), "classifier.weight")
        return cls(labels=labels, weight_CD=weight_CD, bias_C=weights.head("classifier.bias"))

    def probabilities(self, hidden_LD: Array) -> Array:
        """How likely each label is for each token, [L, C]."""
        return softmax(hidden_LD @ self.weight_CD.T + self.bias_C)


@dataclass(frozen=True, slots=True)
class TokenLabels:
    """A token of a text, wherever it was read: its characters and its label probabilities [C]."""

    start: int
    end: int
    probabilities_C: Array


def merge_windows(
    offsets_WL: Sequence[Sequence[tuple[int, int]]],
    segments_WL: Sequence[Sequence[int]],
    probabilities_WLC: Sequence[Array],
) -> list[TokenLabels]:
    """The tokens of all windows, each once, in order of the text.

    A token that several windows read is taken from the one where it stands farthest from an edge,
    because there it saw most of its neighbours. Special tokens are left out.
    """
    best: dict[tuple[int, int], tuple[int, TokenLabels]] = {}
    windows = zip(offsets_WL, segments_WL, probabilities_WLC, strict=True)
    for offsets_L, segments_L, probabilities_LC in windows:
        last = len(offsets_L) - 1
        for i, (start, end) in enumerate(offsets_L):
            if segments_L[i] < 0 or start == end:
                continue
            distance = min(i, last - i)
            held = best.get((start, end))
            if held is None or distance > held[0]:
                best[start, end] = distance, TokenLabels(start, end, probabilities_LC[i])
    return [best[place][1] for place in sorted(best)]


def entities(text: str, tokens: Sequence[TokenLabels], labels: Sequence[str]) -> list[Entity]:
    """The entities of a text, in order of appearance.

    Args:
        text: the whole text.
        tokens: its tokens, in order, without special ones.
        labels: what the outputs are called.
    """
    found: list[_Open] = []
    previous: str | None = None
    for word in words(text, [(token.start, token.end) for token in tokens]):
        probabilities_C = tokens[word.first_token].probabilities_C
        best = int(probabilities_C.argmax())
        kind, begins = _parse(labels[best])
        if kind is not None:
            if begins or kind != previous:
                found.append(_Open(kind, word.start, word.end, []))
            found[-1].end = word.end
            found[-1].scores.append(float(probabilities_C[best]))
        previous = kind
    return [
        Entity(
            label=entity.label,
            start=entity.start,
            end=entity.end,
            text=text[entity.start : entity.end],
            score=sum(entity.scores) / len(entity.scores),
        )
        for entity in found
    ]


@dataclass(slots=True)
class _Open:
    """An entity that may still grow."""

    label: str
    start: int
    end: int
    scores: list[float]


def _parse(label: str) -> tuple[str | None, bool]:
    """What kind of entity a label names, None for outside, and whether it begins one."""
    if label == _OUTSIDE:
        return None, False
    prefixed = _PREFIXED.fullmatch(label)
    return (prefixed[2], prefixed[1] in "BSU") if prefixed else (label, False)
