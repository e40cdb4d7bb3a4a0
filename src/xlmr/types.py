"""The nouns. Frozen, without behaviour; shapes are given as T tokens, B texts, D hidden width.

Every answer carries an `Accounting`, so truncation is never silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Which rows of the last layer the caller will read: every token, or each text's first (`<s>`).
Rows = Literal["all", "first"]
# What to do with a text longer than the model: cut its end, or its start, and say so; slide a
# window; or refuse.
LongText = Literal["truncate", "truncate_left", "window", "error"]


@dataclass(frozen=True, slots=True)
class Encoding:
    """One text, or one pair, as the encoder reads it.

    Attributes:
        ids: token ids with `<s>` and `</s>`; length L.
        offsets: L pairs (start, end) in characters of the segment the token stands in;
            (0, 0) for special tokens.
        segments: L times 0 (first text), 1 (second text) or -1 (special token).
        total_tokens: length before truncation, special tokens included.
        unknown: how many tokens are `<unk>`.
    """

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    segments: tuple[int, ...]
    total_tokens: int
    unknown: int

    @property
    def truncated(self) -> bool:
        """Whether the text lost tokens on its way in."""
        return self.total_tokens > len(self.ids)


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts laid end to end, never padded: `ids_T[starts[b]:starts[b + 1]]` is text b.

    Attributes:
        ids_T: int32 [T].
        starts: int32 [B + 1], rising from 0 to T.
        given_up: one byte that whoever waits for the answer may set, from any thread, once nobody
            does; a runtime may then stop. None where somebody always will.
    """

    ids_T: NDArray[np.int32]
    starts: NDArray[np.int32]
    given_up: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class Hidden:
    """The encoder's last layer.

    Attributes:
        hidden_TD: float32 [T, D], or [B, D] where only first rows were asked for.
        starts: int32 [B + 1] into the rows of `hidden_TD`.
    """

    hidden_TD: NDArray[np.float32]
    starts: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Language:
    """An ISO 639 code, or `und` where nothing sure can be said, and how sure (0 to 1)."""

    code: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Accounting:
    """What became of the text on its way through the model.

    Attributes:
        tokens: tokens the encoder computed for this item, over all windows.
        total_tokens: tokens of the whole text, special tokens included.
        truncated: whether some of the text was not read.
        windows: how many windows were read (1 unless the text was long and `window` was asked).
        unknown: tokens outside the vocabulary.
    """

    tokens: int
    total_tokens: int
    truncated: bool
    windows: int
    unknown: int


@dataclass(frozen=True, slots=True)
class LabelScore:
    """A label and its probability, or the predicted value for regression heads."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Classification:
    """Labels in falling order of score. Single-label scores sum to 1; multi-label ones need not.

    Attributes:
        labels: all, or as many as were asked for.
        accounting: what became of the text.
        language: what the scores were calibrated for, as the caller or our identification named
            it; None where the model's calibration does not go by language.
        calibrated: whether the model's temperatures were applied.
        abstained: whether the model would rather not answer: it is less sure than the risk it was
            given allows. None where it was given none.
        chosen: of a multi-label model, the labels whose score reaches their threshold; else None.
        entropy: in nats, over all labels, also those that were not asked for; the sum over labels
            that do not exclude each other. None where scores are no probabilities.
    """

    labels: tuple[LabelScore, ...]
    accounting: Accounting
    language: str | None = None
    calibrated: bool = False
    abstained: bool | None = None
    chosen: tuple[str, ...] | None = None
    entropy: float | None = None

    @property
    def label(self) -> str:
        """The likeliest label."""
        return self.labels[0].label

    @property
    def score(self) -> float:
        """Its score."""
        return self.labels[0].score


@dataclass(frozen=True, slots=True)
class Entity:
    """A tagged span; `start` and `end` are characters of the text: `text[start:end]`."""

    label: str
    start: int
    end: int
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Tagging:
    """Entities in order of appearance; words are never split."""

    entities: tuple[Entity, ...]
    accounting: Accounting


@dataclass(frozen=True, slots=True)
class SpanAnswer:
    """The span of the context that answers the question; `text` is empty for "no answer"."""

    text: str
    start: int
    end: int
    score: float
    no_answer_score: float
    accounting: Accounting


@dataclass(frozen=True, slots=True)
class Embedding:
    """A sentence vector, float32 [D] or fewer dimensions; [L, D] where each token's was asked."""

    vector: NDArray[np.float32]
    accounting: Accounting


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document's place in the caller's list, and its relevance (0 to 1)."""

    index: int
    score: float
    accounting: Accounting


@dataclass(frozen=True, slots=True)
class Filling:
    """Candidates for each `<mask>`, in order of the masks, each falling by probability."""

    masks: tuple[tuple[LabelScore, ...], ...]
    accounting: Accounting


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Which model answered: its serving name, the SHA-256 of its content, and its version."""

    name: str
    digest: str
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """How much a caller may use, in requests and in tokens computed; 0 sets no limit.

    Attributes:
        requests_per_s: requests a second, in the long run.
        request_burst: requests at once, after a pause.
        tokens_per_s: tokens a second, in the long run.
        token_burst: tokens at once, after a pause; no single request may be larger.
    """

    requests_per_s: float = 0.0
    request_burst: float = 0.0
    tokens_per_s: float = 0.0
    token_burst: float = 0.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what they may do.

    Attributes:
        name: an opaque name, `anonymous` where no key is required.
        roles: of `predict`, `feedback` and `operate`.
        quota: how much they may use; None for what the settings give everyone.
    """

    name: str = "anonymous"
    roles: frozenset[str] = frozenset({"predict", "feedback", "operate"})
    quota: Quota | None = None
