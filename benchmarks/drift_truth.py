"""Accuracy estimated without labels, held against the truth: a table of `drift_real.py`.

Of each language one half of the rows, chosen by chance, is the reference, the other half is
traffic, shifted. Calibration held on rows where the ECE, less what it would be by chance of so many
rows whose confidences are true, is at most `MOST_ECE`. Rows of one half that are another row of the
other half with something done to them do not occur.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from drift_answers import FOREIGN, PLAIN, TREATMENTS, Answered
from numpy.typing import NDArray

from xlmr.drift.label_free import accuracy_of_labels, estimated_accuracy
from xlmr.drift.reference import Expected, freeze
from xlmr.drift.signals import Signals, Sketch
from xlmr.evaluation.metrics.calibration import ece, ece_by_chance

MOST_ECE = 0.05
# Of fewer the truth itself is a matter of chance.
LEAST_ROWS = 50
TASK = "classify"

Places = NDArray[np.intp]


@dataclass(frozen=True)
class Half:
    """One half of a language's rows, as they are, and all that was done to the same texts."""

    answered: Answered
    language: str
    plain: Places
    origins: Places

    def treated(self, treatment: str) -> Places:
        """The same texts after something happened to them."""
        places = self.answered.where(language=self.language, treatment=treatment)
        return places[np.isin(self.origins[places], self.plain)]


Shift = Callable[[Half, np.random.Generator], Places]


def _label(half: Half, rng: np.random.Generator, *, others: float) -> Places:
    """One label by chance, and a share of all others' rows."""
    truth = half.answered.columns["truth"][half.plain]
    label = rng.choice(np.unique(truth))
    return half.plain[(truth == label) | (rng.random(len(truth)) < others)]


def _gone(half: Half, rng: np.random.Generator) -> Places:
    """Two labels by chance are not asked for any more; one, of three."""
    truth = half.answered.columns["truth"][half.plain]
    known = np.unique(truth)
    return half.plain[~np.isin(truth, rng.choice(known, 1 + (len(known) > 3), replace=False))]


def _third(half: Half, _: np.random.Generator, *, longest: bool) -> Places:
    length = half.answered.columns["characters"][half.plain]
    order = half.plain[np.argsort(length, kind="stable")]
    third = len(order) // 3
    return order[-third:] if longest else order[:third]


def _treated(half: Half, _: np.random.Generator, *, treatment: str) -> Places:
    return half.treated(treatment)


def _orders(half: Half, _: np.random.Generator) -> Places:
    """One in five is something for which no label is right."""
    foreign = half.answered.where(language=half.language, treatment=FOREIGN)
    if not len(foreign):
        return foreign
    return np.concatenate([half.plain, foreign[: len(half.plain) // 4]])


SHIFTS: dict[str, Shift] = {
    "as at release": lambda half, _: half.plain,
    "one label four times as likely": partial(_label, others=0.25),
    "labels that are not asked for any more": _gone,
    "the shortest third": partial(_third, longest=False),
    "the longest third": partial(_third, longest=True),
    **{treatment: partial(_treated, treatment=treatment) for treatment in TREATMENTS},
    "a fifth without any right label": _orders,
}


@dataclass(frozen=True)
class Trial:
    """One language, once shifted: all in points but rows.

    Attributes:
        released: whether calibration held on the reference's rows.
        held: whether it held on these.
        moved: the accuracy, from the reference's rows to these.
        error: of the estimate.
        labels_only: of the estimate if nothing but the frequency of labels changed; None without.
        unbent: of the mean of confidences, the reference's labels not used.
        chance: the error that the best of estimates would have: of the truth's few rows.
        holds: whether the 95 % interval has the truth in it.
    """

    released: bool
    held: bool
    moved: float
    error: float
    labels_only: float | None
    unbent: float
    chance: float
    holds: bool


def trials(answered: Answered, shift: Shift, seeds: range) -> Iterator[Trial]:
    """All languages, each seed with other halves."""
    columns = answered.columns
    plain = columns["treatment"] == PLAIN
    # What was done to a text follows it.
    origins = np.maximum.accumulate(np.where(plain, np.arange(len(plain)), 0))
    for seed in seeds:
        for number, language in enumerate(np.unique(columns["language"][plain]).tolist()):
            rng = np.random.default_rng([6, seed, number])
            mixed = rng.permutation(answered.where(language=language, treatment=PLAIN))
            before, after = np.sort(mixed[::2]), np.sort(mixed[1::2])
            places = shift(Half(answered, language, after, origins), rng)
            if len(places) >= LEAST_ROWS:
                yield _trial(answered, before, places)


def _trial(answered: Answered, before: Places, now: Places) -> Trial:
    right, confidence = answered.columns["right"], answered.columns["confidence"]
    was, truth = float(right[before].mean()), float(right[now].mean())
    sketch, reference = _counted(answered, now), _reference(answered, before)
    estimate, shifted = estimated_accuracy(sketch, reference), accuracy_of_labels(sketch, reference)
    assert estimate is not None
    return Trial(
        released=_held(confidence[before], right[before]),
        held=_held(confidence[now], right[now]),
        moved=(truth - was) * 100.0,
        error=abs(estimate.share - truth) * 100.0,
        labels_only=None if shifted is None else abs(shifted.share - truth) * 100.0,
        unbent=abs(float(confidence[now].mean()) - truth) * 100.0,
        # Mean of a normal variable's absolute value.
        chance=float(np.sqrt(truth * (1.0 - truth) / len(now) * 2.0 / np.pi)) * 100.0,
        holds=estimate.low <= truth <= estimate.high,
    )


def _held(confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_]) -> bool:
    """Whether confidences are off by `MOST_ECE` at most, beyond what few true ones are."""
    return ece(confidence_N, right_N) - ece_by_chance(confidence_N) <= MOST_ECE


def _counted(answered: Answered, places: Places) -> Sketch:
    signals = Signals("", TASK, answered.labels)
    for place in places.tolist():
        signals.see("", answered.sight(place))
    return signals.languages[""]


def _reference(answered: Answered, places: Places) -> Expected:
    rows = [("", answered.sight(place), bool(answered.columns["right"][place])) for place in places]
    truths = [answered.labels[place] for place in answered.columns["truth"][places].tolist()]
    made = freeze(rows, task=TASK, labels=answered.labels, truths=truths)
    return made.languages[""]


def table(models: Mapping[str, Answered], seeds: range) -> Iterator[str]:
    """Rows: model and shift; means where calibration held, where it was lost, and never held."""
    for model, answered in models.items():
        for name, shift in SHIFTS.items():
            found = list(trials(answered, shift, seeds))
            held = [trial for trial in found if trial.released and trial.held]
            lost = [trial for trial in found if trial.released and not trial.held]
            never = [trial for trial in found if not trial.released]
            if found:
                yield f"| {model} | {name} | {_all(held)} | {_some(lost)} | {_some(never)} |"


def _all(these: list[Trial]) -> str:
    if not these:
        return f"{_some(these)} | – | – | –"
    figures = [
        f"{np.mean([trial.moved for trial in these]):+.1f}",
        f"{np.mean([trial.unbent for trial in these]):.1f}",
        f"{np.mean([trial.chance for trial in these]):.1f}",
    ]
    return " | ".join([_some(these), *figures])


def _some(these: list[Trial]) -> str:
    """How many, errors by both estimates (the second in how many), how often intervals hold it."""
    if not these:
        return "0 | – | – | –"
    second = [trial.labels_only for trial in these if trial.labels_only is not None]
    figures = [
        f"{np.mean([trial.error for trial in these]):.1f}",
        f"{np.mean(second):.1f} in {len(second)}" if second else "–",
        f"{np.mean([trial.holds for trial in these]) * 100.0:.0f} %",
    ]
    return " | ".join([str(len(these)), *figures])
