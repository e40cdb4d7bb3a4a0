"""How right answers were at release and are now, by estimate and by labels. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xlmr.drift.label_free import (
    Accuracy,
    Labelled,
    accuracy_of_labels,
    estimated_accuracy,
    labelled_accuracies,
    labelled_accuracy,
)
from xlmr.drift.reference import Expected, Reference
from xlmr.drift.signals import Signals


@dataclass(frozen=True, slots=True)
class Accuracies:
    """Of one language; None where there is nothing to say it by.

    Attributes:
        release: of the reference's rows, by their labels where they had any, else by estimate.
        estimated: of the period's answers, by their confidences.
        labels_only: as estimated, if nothing but the frequency of labels changed; only where it did
            and the reference tells which labels the model takes for which.
        labelled: of those whose truth chance had somebody find out.
    """

    release: Accuracy | None
    estimated: Accuracy | None
    labels_only: Accuracy | None
    labelled: Accuracy | None

    @property
    def lost(self) -> float | None:
        """How many of the period's answers are wrong that would have been right at release."""
        if self.release is None or self.estimated is None:
            return None
        return (self.release.share - self.estimated.share) * self.estimated.rows


def accuracies(
    reference: Reference, signals: Signals, labelled: Mapping[str, Labelled] | None = None
) -> dict[str, Accuracies]:
    """By language, in order; of all languages that were released or seen."""
    known = labelled_accuracies(labelled or {})
    found = {}
    for name in sorted(reference.languages.keys() | signals.languages.keys() | known.keys()):
        expected, sketch = reference.languages.get(name), signals.languages.get(name)
        found[name] = Accuracies(
            None if expected is None else released(expected),
            None if sketch is None else estimated_accuracy(sketch, expected),
            None if sketch is None else accuracy_of_labels(sketch, expected),
            known.get(name),
        )
    return found


def released(expected: Expected) -> Accuracy | None:
    """How right the reference's answers are; None where nothing says so."""
    judged = expected.judged
    if any(judged.rows):
        return labelled_accuracy(Labelled(sum(judged.rows), sum(judged.right)))
    return estimated_accuracy(expected.sketch, expected)
