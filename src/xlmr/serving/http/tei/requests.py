"""What text-embeddings-inference's clients send and expect. Fields that are not named are ignored,
as there; `model` is ours, for servers with several.

`truncate` is true where it is not given, as that server's is by default: a text longer than the
model reads loses its end (its start for `truncation_direction: left`), and the header `x-truncated`
names those that did. With `truncate: false` such a text is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from xlmr.types import LongText

Direction = Literal["left", "right"]


class TeiEmbedRequest(msgspec.Struct, kw_only=True):
    """A text or several; or token ids of one text, or of several.

    `prompt_name`: one of the model's prompts, its default where none is named. `dimensions`: how
    many numbers of each vector are kept.
    """

    inputs: str | list[str | int | list[int]]
    truncate: bool | None = None
    truncation_direction: Direction = "right"
    normalize: bool = True
    prompt_name: str | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    model: str | None = None


class TeiEmbedAllRequest(msgspec.Struct, kw_only=True):
    """As for `/embed`; the vectors of tokens are neither normalised nor shortened."""

    inputs: str | list[str | int | list[int]]
    truncate: bool | None = None
    truncation_direction: Direction = "right"
    prompt_name: str | None = None
    model: str | None = None


class TeiPredictParameters(msgspec.Struct, kw_only=True, frozen=True):
    """What Hugging Face's client sends beside a text."""

    top_k: Annotated[int, Meta(ge=1)] | None = None
    function_to_apply: Literal["none"] | None = None


class TeiPredictRequest(msgspec.Struct, kw_only=True):
    """A text, a pair `["a", "b"]`, or a batch of both: `[["a"], ["b", "c"]]`."""

    inputs: str | list[str | list[str]]
    truncate: bool | None = None
    truncation_direction: Direction = "right"
    raw_scores: bool = False
    parameters: TeiPredictParameters = TeiPredictParameters()
    model: str | None = None


class TeiPrediction(msgspec.Struct, kw_only=True):
    """A label and its score."""

    score: float
    label: str


class TeiRerankRequest(msgspec.Struct, kw_only=True):
    """A query and the texts that are ranked for it."""

    query: str
    texts: list[str]
    truncate: bool | None = None
    truncation_direction: Direction = "right"
    raw_scores: bool = False
    return_text: bool = False
    model: str | None = None


class TeiRank(msgspec.Struct, kw_only=True):
    """A text by its place in the request, and how well it answers the query."""

    index: int
    score: float
    text: str | UnsetType = UNSET


class TeiSimilarityInput(msgspec.Struct, kw_only=True):
    """A sentence, and those it is compared with."""

    source_sentence: str
    sentences: list[str]


class TeiSimilarityParameters(msgspec.Struct, kw_only=True):
    """How the sentences are read."""

    truncate: bool | None = None
    truncation_direction: Direction = "right"
    prompt_name: str | None = None


class TeiSimilarityRequest(msgspec.Struct, kw_only=True):
    """Sentences to compare, and how they are read."""

    inputs: TeiSimilarityInput
    parameters: TeiSimilarityParameters | None = None
    model: str | None = None


class TeiTokenizeRequest(msgspec.Struct, kw_only=True):
    """A text or several. `prompt_name`: one of the model's prompts, put before each of them."""

    inputs: str | list[str]
    add_special_tokens: bool = True
    prompt_name: str | None = None
    model: str | None = None


class TeiSimpleToken(msgspec.Struct, kw_only=True):
    """A token and the characters it stands for, counted from its text's first (its prompt's)."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class TeiDecodeRequest(msgspec.Struct, kw_only=True):
    """Token ids of one text, or of several."""

    ids: list[int | list[int]]
    skip_special_tokens: bool = True
    model: str | None = None


class TeiAnyRequest(msgspec.Struct, kw_only=True):
    """Any of the bodies for `/rerank`, `/predict` or `/embed`."""

    inputs: Any = None
    query: Any = None
    model: str | None = None


def long_text(truncate: bool | None, direction: Direction) -> LongText:
    """What becomes of a text that is too long."""
    if truncate is False:
        return "error"
    return "truncate" if direction == "right" else "truncate_left"
