"""Question answering: two scores per token become a span of the context, or "no answer".

The first token, `<s>`, stands for "the answer is not here". Where a long context was read through
several windows, probabilities are normalised over all of them together, so that a window without
the answer cannot win by being sure of the wrong thing.

Shapes: L tokens of one window, D hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xlmr.model.heads.classify import check_outputs
from xlmr.model.weights import Weights
from xlmr.types import Encoding

Array = NDArray[np.float32]

_CONTEXT = 1


@dataclass(frozen=True)
class AnswerHead:
    """Hugging Face's question answering head: a start and an end score for each token."""

    weight_2D: Array
    bias_2: Array

    @classmethod
    def open(cls, weights: Weights) -> AnswerHead:
        """Reads the head.

        Raises:
            WeightsError: the checkpoint lacks it.
            ModelRefusedError: it has not two outputs.
        """
        weight_2D = weights.head("qa_outputs.weight")
        check_outputs(weight_2D, 2, "qa_outputs.weight")
        return cls(weight_2D=weight_2D, bias_2=weights.head("qa_outputs.bias"))

    def logits(self, hidden_LD: Array) -> Array:
        """Start and end scores, [2, L]."""
        logits_2L: Array = self.weight_2D @ hidden_LD.T + self.bias_2[:, None]
        return logits_2L


@dataclass(frozen=True, slots=True)
class Span:
    """The likeliest answer: `context[start:end]`, empty for none, and two probabilities."""

    start: int
    end: int
    score: float
    no_answer_score: float


def best_span(
    context: str,
    windows: Sequence[Encoding],
    logits_W2L: Sequence[Array],
    *,
    max_answer_tokens: int,
    must_answer: bool,
) -> Span:
    """The best span of the context over all windows.

    Args:
        context: the text that segment 1 of the windows was cut from.
        windows: (question, context) pairs.
        logits_W2L: the head's scores for each.
        max_answer_tokens: longest answer.
        must_answer: whether "no answer" is no option, however likely it is.
    """
    # A window without the answer rightly says "not here"; only if all do is there none.
    nowhere_2 = min((logits_2L[:, 0] for logits_2L in logits_W2L), key=lambda pair: pair.sum())
    no_answer = float(nowhere_2.sum())
    starts, ends = [nowhere_2[:1]], [nowhere_2[1:]]
    best, start, end = -np.inf, 0, 0
    for window, logits_2L in zip(windows, logits_W2L, strict=True):
        inside_L = np.array(window.segments) == _CONTEXT
        starts.append(logits_2L[0, inside_L])
        ends.append(logits_2L[1, inside_L])
        found = _search(
            logits_2L, inside_L & _visible(context, window), inside_L, max_answer_tokens
        )
        if found is not None and found[0] > best:
            best = found[0]
            start, end = window.offsets[found[1]][0], window.offsets[found[2]][1]
    norm = _log_sum(np.concatenate(starts)) + _log_sum(np.concatenate(ends))
    no_answer_score = float(np.exp(no_answer - norm))
    if best == -np.inf or (no_answer > best and not must_answer):
        return Span(0, 0, score=no_answer_score, no_answer_score=no_answer_score)
    shown = context[start:end]
    start += len(shown) - len(shown.lstrip())
    return Span(start, end, score=float(np.exp(best - norm)), no_answer_score=no_answer_score)


def _search(
    logits_2L: Array,
    may_end_L: NDArray[np.bool_],
    may_start_L: NDArray[np.bool_],
    max_answer_tokens: int,
) -> tuple[float, int, int] | None:
    """The best (score, first token, last token) of one window; None where no span may stand."""
    start_L = np.where(may_start_L, logits_2L[0], -np.inf)
    end_L = np.where(may_end_L, logits_2L[1], -np.inf)
    best = (-np.inf, 0, 0)
    for more in range(min(max_answer_tokens, len(start_L))):
        sums = start_L[: len(start_L) - more] + end_L[more:]
        i = int(sums.argmax())
        if sums[i] > best[0]:
            best = (float(sums[i]), i, i + more)
    return None if best[0] == -np.inf else best


def _visible(context: str, window: Encoding) -> NDArray[np.bool_]:
    """Which tokens show a character of the context; a bare space token shows none.

    An answer may begin with a bare space token, as training labels do in scripts without spaces,
    but must end in a visible one, or it would be empty.
    """
    return np.array([bool(context[start:end].strip()) for start, end in window.offsets])


def _log_sum(values: Array) -> float:
    peak = float(values.max())
    return peak + float(np.log(np.exp(values.astype(np.float64) - peak).sum()))
