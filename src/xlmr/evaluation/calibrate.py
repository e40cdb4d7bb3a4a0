"""Makes probabilities honest, language by language, and says by how much. Pure: arrays in.

N rows, C classes. One divisor of the logits for each language. A language of n rows whose own
best divisor is t, beside T for all languages together, gets

    log temperature = (n · log t + k · log T) / (n + k),        k = `prior_rows`

so a language with few rows follows the others and one with many follows itself; one never seen
gets T. Fit on rows the model did not learn from; judge on rows the fit did not see.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from xlmr.errors import DataError
from xlmr.evaluation.abstention import Abstention
from xlmr.evaluation.metrics.calibration import brier, ece, ece_interval, log_loss
from xlmr.evaluation.thresholds import Thresholds

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Temperatures:
    """Divisors of the logits: above 1 the raw probabilities were too sure.

    Attributes:
        everywhere: for languages not listed.
        by_language: shrunk towards `everywhere`.
        prior_rows: k of the formula.
    """

    everywhere: float
    by_language: Mapping[str, float]
    prior_rows: float

    def of(self, language: str) -> float:
        """The divisor that holds for a language."""
        return self.by_language.get(language, self.everywhere)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a model directory carries, each part only where it was fitted.

    Attributes:
        temperatures: for labels that exclude each other.
        thresholds: for labels that do not.
        abstention: by language; `*` stands for every other one.
    """

    temperatures: Temperatures | None = None
    thresholds: Thresholds | None = None
    abstention: Mapping[str, Abstention] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> Calibration:
        """The reverse.

        Raises:
            DataError: something else; says where. Divisors are finite and above 0.
        """
        try:
            read = msgspec.convert(value, cls)
        except msgspec.ValidationError as fault:
            raise DataError(f"calibration: {fault}") from None
        if read.temperatures is not None:
            given = (read.temperatures.everywhere, *read.temperatures.by_language.values())
            if not all(0.0 < t < math.inf for t in given):
                raise DataError("calibration: a temperature is not a number above 0")
        return read


@dataclass(frozen=True, slots=True)
class Honesty:
    """How honest one language's probabilities are, before and after; ECE with 95 % intervals."""

    language: str
    n: int
    temperature: float
    ece_before: float
    ece_before_interval: tuple[float, float]
    ece_after: float
    ece_after_interval: tuple[float, float]
    brier_before: float
    brier_after: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return asdict(self)


def best_temperature(logits_NC: Floats, gold_N: Indices) -> float:
    """The divisor of the logits, 0.05 to 20, that gives the gold classes the lowest log loss.

    The loss is convex in the inverse temperature, so a golden-section search finds its only
    minimum. Where every row is right the minimum is at infinite certainty: the bound stands for it.
    """
    low, high = np.log(0.05), np.log(20.0)
    golden = (np.sqrt(5.0) - 1.0) / 2.0
    for _ in range(60):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if log_loss(logits_NC / np.exp(left), gold_N) < log_loss(logits_NC / np.exp(right), gold_N):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2.0))


def fit_temperatures(
    logits_NC: Floats, gold_N: Indices, languages: Sequence[str], *, prior_rows: float = 200.0
) -> Temperatures:
    """One divisor for each language that has rows, and one for all.

    Raises:
        ValueError: no rows, lengths that differ, or `prior_rows` not above 0.
    """
    _check(logits_NC, gold_N, languages)
    if not prior_rows > 0.0:
        raise ValueError("prior_rows is not above 0")
    everywhere = best_temperature(logits_NC, gold_N)
    language_N = np.array(languages)
    shrunk = {}
    for language in sorted(set(languages)):
        here_N = language_N == language
        own = best_temperature(logits_NC[here_N], gold_N[here_N])
        rows = int(here_N.sum())
        weighted = rows * math.log(own) + prior_rows * math.log(everywhere)
        shrunk[language] = math.exp(weighted / (rows + prior_rows))
    return Temperatures(everywhere=everywhere, by_language=shrunk, prior_rows=prior_rows)


def probabilities(logits_NC: Floats, temperature: float = 1.0) -> Floats:
    """Softmax of the divided logits."""
    scaled_NC = logits_NC.astype(np.float64) / temperature
    powers_NC = np.exp(scaled_NC - scaled_NC.max(axis=1, keepdims=True))
    shares_NC: Floats = powers_NC / powers_NC.sum(axis=1, keepdims=True)
    return shares_NC


def judge_temperatures(
    temperatures: Temperatures,
    logits_NC: Floats,
    gold_N: Indices,
    languages: Sequence[str],
    *,
    seed: int = 0,
    samples: int = 1000,
) -> tuple[Honesty, ...]:
    """ECE and Brier score of each language before and after, languages in order.

    Raises:
        ValueError: no rows, or lengths that differ.
    """
    _check(logits_NC, gold_N, languages)
    language_N = np.array(languages)
    found = []
    for language in sorted(set(languages)):
        here_N = language_N == language
        temperature = temperatures.of(language)
        gold_here = gold_N[here_N]
        before_NC = probabilities(logits_NC[here_N])
        after_NC = probabilities(logits_NC[here_N], temperature)
        right_N = before_NC.argmax(axis=1) == gold_here
        errors = []
        for shown_NC in (before_NC, after_NC):
            confidence_N = shown_NC.max(axis=1)
            # Seeded by language too: an interval must not move when another language joins.
            generator = np.random.default_rng([seed, zlib.crc32(language.encode())])
            interval = ece_interval(confidence_N, right_N, generator=generator, samples=samples)
            errors.append((ece(confidence_N, right_N), interval))
        found.append(
            Honesty(
                language=language,
                n=len(gold_here),
                temperature=temperature,
                ece_before=errors[0][0],
                ece_before_interval=errors[0][1],
                ece_after=errors[1][0],
                ece_after_interval=errors[1][1],
                brier_before=brier(before_NC, gold_here),
                brier_after=brier(after_NC, gold_here),
            )
        )
    return tuple(found)


def _check(logits_NC: Floats, gold_N: Indices, languages: Sequence[str]) -> None:
    if len(gold_N) == 0 or not len(logits_NC) == len(gold_N) == len(languages):
        raise ValueError(f"{len(gold_N)} gold, {len(logits_NC)} predicted, {len(languages)} rows")
