"""From one text's scores to what is said of them: calibrated, chosen, or rather withheld. Pure.

Shapes: C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import InputError
from xlmr.model.calibration import EVEN, Calibration
from xlmr.model.heads.classify import Activation, entropy
from xlmr.model.reading import Item
from xlmr.text.language import identify_many

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A head's calibration, as far as it applies to what was asked.

    Attributes:
        calibration: empty where the model has none or raw outputs were asked for.
        activation: how outputs become scores.
        labels: of the head, in its order.
    """

    calibration: Calibration
    activation: Activation
    labels: Sequence[str]

    @classmethod
    def of(
        cls, calibration: Calibration | None, activation: Activation, labels: Sequence[str]
    ) -> Verdict:
        """Values and raw outputs are nobody's probabilities: nothing is applied to them."""
        applies = calibration is not None and activation != "none"
        return cls(calibration if calibration and applies else Calibration(), activation, labels)

    @property
    def calibrated(self) -> bool:
        """Whether temperatures are applied."""
        return self.calibration.temperatures is not None

    def languages(self, items: Sequence[Item], said: Sequence[str] | None) -> Sequence[str | None]:
        """The language of each item: as said, else identified if it makes a difference, else None.

        Raises:
            InputError: not one language for each item.
        """
        if said is not None:
            if isinstance(said, str) or len(said) != len(items):
                raise InputError(f"expected {len(items)} in a list", path="$.languages")
            return list(said)
        if not self.calibration.by_language:
            return [None] * len(items)
        texts = [item if isinstance(item, str) else "\n".join(item) for item in items]
        return [language.code for language in identify_many(texts)]

    def temperature(self, language: str | None) -> float:
        """The divisor of the outputs."""
        return self.calibration.temperature(language)

    def abstained(self, scores_C: Array, language: str | None) -> bool | None:
        """Whether the likeliest label is better withheld; None where that was not fitted."""
        if self.activation != "softmax":
            return None
        return self.calibration.abstained(float(scores_C.max()), language)

    def entropy(self, scores_C: Array) -> float | None:
        """In nats; None where the scores are no probabilities."""
        if self.activation == "none":
            return None
        return entropy(scores_C, exclusive=self.activation == "softmax")

    def chosen(self, scores_C: Array, language: str | None) -> tuple[str, ...] | None:
        """The labels that reach their threshold, in the head's order; None unless multi-label."""
        if self.activation != "sigmoid":
            return None
        thresholds = self.calibration.thresholds
        given = []
        for label, score in zip(self.labels, scores_C.tolist(), strict=True):
            least = EVEN if thresholds is None else thresholds.of(label, language)
            if least is not None and score >= least:
                given.append(label)
        return tuple(given)
