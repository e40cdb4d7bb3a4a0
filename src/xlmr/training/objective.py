"""The port of a task that is learned: rows become features, features a loss, outputs a dev score.

A feature is what one row, or one window of it, gives the encoder to read. The loop (`loop.train`)
knows nothing else of a task; each file of `objectives/` is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class Feature:
    """What the encoder reads at once.

    Attributes:
        texts: token ids of one text, or of several that are learned from together.
        target: what the network should say; the objective's own.
        row: place, in the rows it was made from, of the row it belongs to.
        language: of that row.
        truncated: whether tokens of the row are in no feature.
    """

    texts: tuple[tuple[int, ...], ...]
    target: Any
    row: int
    language: str
    truncated: bool = False

    @property
    def length(self) -> int:
        """Tokens it costs in a batch of its like: the longest text, as often as there are texts."""
        return max(map(len, self.texts)) * len(self.texts)

    @property
    def tokens(self) -> int:
        """Real tokens."""
        return sum(map(len, self.texts))


class Objective(Protocol):
    """A task as the loop sees it. Networks and tensors are torch's.

    `metric` names what `score` gives, larger is better. `chance` is the mean loss of a network that
    has learned nothing but how often each answer occurs; None where that cannot be said.
    """

    @property
    def metric(self) -> str:
        """What dev rows are scored by: `accuracy`, `span_f1`."""

    @property
    def chance(self) -> float | None:
        """See the class."""

    def encode(self, rows: Sequence[Any], *, learn: bool) -> list[Feature]:
        """Rows as features, to learn from or to be scored on; a row may give several."""

    def network(self) -> Any:
        """The encoder under a new head, as transformers' class; the caller has set the seed."""

    def weight(self, feature: Feature) -> float:
        """What a feature counts in the mean over a step."""

    def loss(self, network: Any, batch: Sequence[Feature], random: np.random.Generator) -> Any:
        """The sum over a batch of weight × loss, a scalar tensor; `random` is the batch's own."""

    def predict(self, network: Any, batch: Sequence[Feature]) -> Sequence[Any]:
        """One output for each feature, on the CPU, without gradients."""

    def score(
        self, rows: Sequence[Any], features: Sequence[Feature], outputs: Sequence[Any]
    ) -> Mapping[str, float]:
        """The metric by language, over the features of whole rows."""

    def save(self, network: Any, directory: Path) -> None:
        """Writes the network, and what else its task needs, into a directory that is empty."""
