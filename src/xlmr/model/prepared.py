"""Work split in three: prepare on the caller's side, compute anywhere, finish into answers.

A server prepares a request, batches its encodings with those of others, and finishes with the
vectors it got back; the predictor does the same in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from xlmr.model.runtime import Runtime, pack
from xlmr.types import Encoding, LongText, Rows

Array = NDArray[np.float32]
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class Prepared(Generic[AnswerT]):
    """A request that only lacks its vectors.

    Attributes:
        encodings: what the encoder must compute, in order.
        rows: which rows of the last layer `finish` reads.
        finish: takes one array for each encoding, in the same order, float32 [L, D] for
            `rows="all"` or [1, D] for `"first"`, and gives one answer for each item.
    """

    encodings: tuple[Encoding, ...]
    rows: Rows
    finish: Callable[[Iterable[Array]], list[AnswerT]]


def compute(prepared: Prepared[AnswerT], runtime: Runtime) -> Iterator[Array]:
    """The vectors of each encoding, batch after batch, as `Prepared.finish` wants them.

    One batch is held at a time, so memory does not grow with the number of texts.

    Raises:
        BudgetError: one text alone exceeds the runtime's budget.
    """
    for batch in batches(prepared.encodings, runtime.max_batch_tokens):
        hidden = runtime.run(pack(batch), rows=prepared.rows)
        for i in range(len(batch)):
            yield hidden.hidden_TD[hidden.starts[i] : hidden.starts[i + 1]]


def batches(encodings: Sequence[Encoding], max_tokens: int) -> Iterator[list[Encoding]]:
    """Consecutive encodings of at most `max_tokens` together. One that is longer stays alone."""
    batch: list[Encoding] = []
    tokens = 0
    for encoding in encodings:
        if batch and tokens + len(encoding.ids) > max_tokens:
            yield batch
            batch, tokens = [], 0
        batch.append(encoding)
        tokens += len(encoding.ids)
    if batch:
        yield batch


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifyOptions:
    """For `classify`.

    Attributes:
        top: how many labels; None for all.
        long: what becomes of texts longer than the model reads.
        raw_scores: the head's outputs rather than probabilities; nothing is calibrated.
        languages: of each item, where the caller knows them; None identifies them where the
            model's calibration goes by language.
    """

    top: int | None = None
    long: LongText = "truncate"
    raw_scores: bool = False
    languages: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TagOptions:
    """For `tag`."""

    long: LongText = "truncate"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOptions:
    """For `answer`.

    Attributes:
        long: what becomes of contexts longer than the model reads.
        max_answer_tokens: longest answer.
        must_answer: whether "no answer" is no option, however likely it is.
    """

    long: LongText = "window"
    max_answer_tokens: int = 30
    must_answer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedOptions:
    """For `embed`.

    Attributes:
        prompt: name of one of the model's prompts; None for its default, "" for none at all.
        dimensions: how many numbers are kept, from the first on; None for all.
        normalize: whether vectors are scaled to length 1; None as the model says.
        long: what becomes of texts longer than the model reads.
        each_token: the vector of each token, [L, D], as the encoder left it, rather than the
            text's one; nothing is shortened, normalised or read in windows then.
    """

    prompt: str | None = None
    dimensions: int | None = None
    normalize: bool | None = None
    long: LongText = "truncate"
    each_token: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankOptions:
    """For `rerank`; the items are the documents.

    Attributes:
        query: what the documents are ranked for.
        raw_scores: the head's output rather than a relevance between 0 and 1.
        long: what becomes of documents longer than the model reads.
    """

    query: str
    raw_scores: bool = False
    long: LongText = "truncate"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroShotOptions:
    """For `zero_shot`.

    Attributes:
        labels: the candidates.
        template: the hypothesis; its first `{}` becomes the label.
        multi_label: whether several labels may fit one text.
        long: what becomes of texts longer than the model reads.
    """

    labels: Sequence[str]
    template: str = "This example is {}."
    multi_label: bool = False
    long: LongText = "truncate"


@dataclass(frozen=True, slots=True, kw_only=True)
class FillOptions:
    """For `fill`.

    Attributes:
        top: how many candidates for each mask.
    """

    top: int = 5


Options = (
    ClassifyOptions
    | TagOptions
    | AnswerOptions
    | EmbedOptions
    | RerankOptions
    | ZeroShotOptions
    | FillOptions
)
