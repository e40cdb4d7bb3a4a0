"""Two models on the same rows: who is better, where, and could it be chance? Pure.

Paired: every drawn row brings both models' scores with it, so what makes a row hard for both
cancels out. Macro: rows are drawn within each language, and every language counts the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import DataError
from xlmr.evaluation.metrics.intervals import percentile_interval

# One number a row, larger is better: right or wrong as 1 and 0, an answer's F1, 1 / rank …
Scores = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Difference:
    """How the new model's mean score differs from the old one's over n rows, both 0 to 1.

    `low` and `high` bound the difference with 95 % coverage and never exclude it.
    """

    n: int
    old: float
    new: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Each language, the one that lost most first, and all of them counting the same.

    Attributes:
        metric: what the scores are.
        languages: by name, in rising order of difference.
        macro: over languages; its `n` counts all rows.
        seed: of the bootstrap.
    """

    metric: str
    languages: Mapping[str, Difference]
    macro: Difference
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`; `languages` is a list, worst first."""
        rows = [{"language": name} | asdict(found) for name, found in self.languages.items()]
        return asdict(self) | {"languages": rows}


def compare(
    old: Scores, new: Scores, *, metric: str = "accuracy", seed: int = 0, samples: int = 1000
) -> Comparison:
    """Compares scores row by row: `old[language][i]` and `new[language][i]` are of one row.

    Raises:
        DataError: no rows, or the two were not scored on the same rows.
    """
    if not old or old.keys() != new.keys():
        raise DataError(
            f"nothing to compare: languages {', '.join(sorted(old))} against "
            f"{', '.join(sorted(new))}",
            hint="score both models on the same data",
        )
    drawn = np.zeros(samples)
    found: dict[str, Difference] = {}
    for language in sorted(old):
        before_N, after_N = old[language], new[language]
        if len(before_N) == 0 or len(before_N) != len(after_N):
            raise DataError(f"{language}: {len(before_N)} rows against {len(after_N)}")
        gain_N = np.asarray(after_N, np.float64) - np.asarray(before_N, np.float64)
        # Seeded by language too: an interval must not move when another language joins the data.
        generator = np.random.default_rng([seed, zlib.crc32(language.encode())])
        means = _drawn_means(gain_N, generator, samples)
        drawn += means / len(old)
        found[language] = _difference(
            len(gain_N), float(np.mean(before_N)), float(np.mean(after_N)), means
        )
    macro = _difference(
        sum(difference.n for difference in found.values()),
        float(np.mean([difference.old for difference in found.values()])),
        float(np.mean([difference.new for difference in found.values()])),
        drawn,
    )
    worst_first = sorted(found, key=lambda language: (found[language].difference, language))
    return Comparison(metric, {name: found[name] for name in worst_first}, macro, seed)


def _drawn_means(
    gain_N: NDArray[np.float64], generator: np.random.Generator, samples: int
) -> NDArray[np.float64]:
    rows = len(gain_N)
    means = np.empty(samples)
    for i in range(samples):  # one draw at a time: rows may be many, samples × rows must not be
        means[i] = gain_N[generator.integers(0, rows, rows)].mean()
    return means


def _difference(n: int, old: float, new: float, drawn: NDArray[np.float64]) -> Difference:
    low, high = percentile_interval(drawn, new - old)
    return Difference(n=n, old=old, new=new, difference=new - old, low=low, high=high)
