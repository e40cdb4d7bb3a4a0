"""What a request will at least ask of the engine, told by its characters before it is tokenised."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from xlmr.model.prepared import RerankOptions, ZeroShotOptions
from xlmr.serving.estimate import LeastTokens
from xlmr.serving.forecast import Load
from xlmr.serving.preparation import size_of
from xlmr.serving.question import Question

# A text counts with its first so many characters: what is beyond may be cut off.
_COUNTED = 512
# The traffic may turn to languages that need fewer tokens for as much text.
_CAUTION = 0.5
# Up to so many tokens the mean is good enough: to be wrong about them costs a few milliseconds,
# and at the edge of overload it spares the tokenising of what is refused right after it.
_GUESSED_TOKENS = 64
_LEARNING = 0.02


class Least(msgspec.Struct, frozen=True):
    """What a request holds, and the least it asks for.

    Attributes:
        kind: what the bound was learned from: requests of one task, read in one way.
        characters: that count.
        load: at least.
    """

    kind: tuple[str, str]
    characters: int
    load: Load


class Outlook:
    """Learns from every request that is tokenised how few tokens its characters can become."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], LeastTokens] = {}
        self._means: dict[tuple[str, str], float] = {}

    def least(self, question: Question, places: Sequence[int]) -> Least:
        """A bound for the texts at some places of a question."""
        options, items = question.options, question.items
        kind = (question.task, getattr(options, "long", ""))
        each = len(options.query) if isinstance(options, RerankOptions) else 0
        readings = len(options.labels) if isinstance(options, ZeroShotOptions) else 1
        characters = readings * sum(
            [min(size_of(items[place]) + each, _COUNTED) for place in places]
        )
        texts = max(1, readings * len(places))
        known = self._kinds.get(kind)
        tokens = 0.0
        if known is not None:
            guess = min(self._means[kind] * characters, _GUESSED_TOKENS)
            tokens = max(_CAUTION * known.tokens(characters), guess)
        # No lengths of this sum have a smaller sum of squares than equal ones.
        return Least(kind, characters, Load(tokens, tokens * tokens / texts, texts))

    def learn(self, least: Least, tokens: int) -> None:
        """What it really came to."""
        if least.characters <= 0:
            return
        ratio = tokens / least.characters
        known = self._kinds.get(least.kind)
        if known is None:
            known = self._kinds[least.kind] = LeastTokens()
            self._means[least.kind] = ratio
        known.observe(least.characters, tokens)
        mean = self._means[least.kind]
        self._means[least.kind] = mean + _LEARNING * (ratio - mean)
