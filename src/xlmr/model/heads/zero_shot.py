"""Labels nobody trained, by inference: does the text entail "This example is {label}."?

W. Yin, J. Hay and D. Roth, "Benchmarking Zero-shot Text Classification", EMNLP 2019.

Shapes: N candidate labels, C outputs of the inference head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xlmr.model.encoder import softmax
from xlmr.model.heads.labels import is_contradiction, is_entailment

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Which output of an inference head means "follows", and which the contrary."""

    entailment: int
    contradiction: int


def find_outcomes(labels: Sequence[str]) -> Outcomes | None:
    """Finds the outputs by their labels, in any case; None unless there is one of each."""
    entailment = [i for i, label in enumerate(labels) if is_entailment(label)]
    contradiction = [i for i, label in enumerate(labels) if is_contradiction(label)]
    if len(entailment) != 1 or len(contradiction) != 1:
        return None
    return Outcomes(entailment=entailment[0], contradiction=contradiction[0])


def label_scores(logits_NC: Array, outcomes: Outcomes, *, multi_label: bool) -> Array:
    """How well each candidate fits, [N].

    Labels that exclude each other share a softmax of their entailments; with `multi_label` each is
    weighed against its own contradiction.
    """
    if not multi_label:
        return softmax(logits_NC[:, outcomes.entailment])
    both_N2 = logits_NC[:, [outcomes.contradiction, outcomes.entailment]]
    return softmax(both_N2)[:, 1]


def fill_template(template: str, label: str) -> str:
    """The hypothesis. Only the first `{}` is replaced; nothing else in either is interpreted."""
    return template.replace("{}", label, 1)
