"""`calibration.json`: what makes a model's scores honest, and says which answers are given. Pure.

Temperatures divide a head's outputs; thresholds say from which probability a label is given;
abstention says below which confidence an answer is better withheld. Each goes by language, with a
part for every other one. Fitting them is `xlmr.evaluation.calibrate`'s work.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from xlmr.errors import ModelRefusedError
from xlmr.model.jsonfiles import read_optional_object
from xlmr.text.codes import short_code

CALIBRATION_FILE = "calibration.json"
_FORMAT = 1
# From where a label is given that has no threshold: likelier than not.
EVEN = 0.5


@dataclass(frozen=True, slots=True)
class Temperatures:
    """Divisors of the outputs: above 1 the raw probabilities were too sure.

    Attributes:
        everywhere: for languages not listed.
        by_language: drawn towards `everywhere`.
        spread: by how much their logarithms were expected to differ from that of `everywhere`.
    """

    everywhere: float
    by_language: Mapping[str, float]
    spread: float

    def of(self, language: str | None) -> float:
        """The divisor that holds for a language; None for one that is not known."""
        key = key_of(language, self.by_language)
        return self.everywhere if key is None else self.by_language[key]


@dataclass(frozen=True, slots=True)
class Target:
    """What a threshold is for.

    `precision`: the lowest threshold at which the share of right flags is at least `value`, so
    that as many as possible are found. `recall`: the highest at which at least `value` of the
    label's rows are found. `f1`: where F1 is highest; `value` says nothing.
    """

    kind: Literal["precision", "recall", "f1"]
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """A label is given where its probability is at least its threshold.

    Attributes:
        target: what they were fitted for.
        everywhere: by label, for languages not listed; None: the target cannot be reached, the
            label is never given.
        by_language: language → label → threshold, only where a language had rows enough.
    """

    target: Target
    everywhere: Mapping[str, float | None]
    by_language: Mapping[str, Mapping[str, float | None]]

    def of(self, label: str, language: str | None) -> float | None:
        """The threshold that holds for a label in a language; None for one that is not known.

        Raises:
            KeyError: the label is not known.
        """
        key = key_of(language, self.by_language)
        own = self.by_language[key] if key is not None else {}
        return own[label] if label in own else self.everywhere[label]


@dataclass(frozen=True, slots=True)
class Abstention:
    """Answers with a confidence above `threshold` are given, others withheld.

    Attributes:
        threshold: None where no coverage could be shown to keep the risk: withhold everything.
        risk: the share of given answers that may be wrong.
        confidence: with which the bound holds.
        bound: upper bound of that share at the threshold; None without one.
        coverage: share of the fitted rows that are answered.
        rows: how many rows it was fitted on.
    """

    threshold: float | None
    risk: float
    confidence: float
    bound: float | None
    coverage: float
    rows: int

    def answers(self, confidence: float) -> bool:
        """Whether an answer of this confidence is given."""
        return self.threshold is not None and confidence > self.threshold


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a model directory carries, each part only where it was fitted.

    Attributes:
        temperatures: of the outputs.
        thresholds: for labels that do not exclude each other.
        abstention: for labels that do; by language, `*` stands for every other one.
    """

    temperatures: Temperatures | None = None
    thresholds: Thresholds | None = None
    abstention: Mapping[str, Abstention] = field(default_factory=dict)

    @property
    def by_language(self) -> bool:
        """Whether a text's language makes a difference."""
        temperatures = self.temperatures is not None and self.temperatures.by_language
        thresholds = self.thresholds is not None and self.thresholds.by_language
        return bool(temperatures or thresholds or self.abstention.keys() - {"*"})

    def temperature(self, language: str | None) -> float:
        """The divisor of the outputs; 1 where none was fitted."""
        return 1.0 if self.temperatures is None else self.temperatures.of(language)

    def abstained(self, confidence: float, language: str | None) -> bool | None:
        """Whether an answer is withheld; None where abstention was not fitted for the language."""
        key = key_of(language, self.abstention.keys() - {"*"})
        rule = self.abstention.get("*" if key is None else key)
        return None if rule is None else not rule.answers(confidence)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {"format": _FORMAT} | asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Calibration:
        """The reverse.

        Raises:
            ModelRefusedError: something else; says where. Divisors are finite and above 0.
        """
        if value.get("format") != _FORMAT:
            raise ModelRefusedError(
                f"expected {_FORMAT}, got {value.get('format')!r}",
                field=f"{CALIBRATION_FILE} format",
                hint="a newer xlmr wrote this model; upgrade",
            )
        try:
            read = msgspec.convert(value, cls)
        except msgspec.ValidationError as fault:
            raise ModelRefusedError(str(fault), field=CALIBRATION_FILE) from None
        if read.temperatures is not None:
            given = (read.temperatures.everywhere, *read.temperatures.by_language.values())
            if not all(0.0 < t < math.inf for t in given):
                raise ModelRefusedError(
                    "a temperature is not a number above 0",
                    field=f"{CALIBRATION_FILE} temperatures",
                )
        return read

    def check_labels(self, labels: Iterable[str]) -> None:
        """Refuses thresholds of another head.

        Raises:
            ModelRefusedError: a label has none.
        """
        if self.thresholds is not None and set(labels) - self.thresholds.everywhere.keys():
            raise ModelRefusedError(
                "a label of the model has no threshold", field=f"{CALIBRATION_FILE} thresholds"
            )


def read_calibration(directory: Path) -> Calibration | None:
    """What a model directory carries; None where it carries nothing.

    Raises:
        ModelRefusedError: the file is not what it should be.
    """
    value = read_optional_object(directory / CALIBRATION_FILE)
    return None if value is None else Calibration.from_json(value)


def key_of(language: str | None, keys: Iterable[str]) -> str | None:
    """The key among a file's that means a language: itself, or the only one of the same language.

    Data sets say `arb_Arab` or `pt-BR` where identification says `ar` or `pt`.
    """
    if language is None:
        return None
    known = list(keys)
    if language in known:
        return language
    short = short_code(language)
    alike = [key for key in known if short_code(key) == short]
    return alike[0] if len(alike) == 1 else None
