"""Two models on the same rows: who is better, where, and could it be chance? Pure.

Paired: every drawn row brings both models' scores with it, so what makes a row hard for both
cancels out. Macro: rows are drawn within each language, and every language counts the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import DataError
from xlmr.evaluation.metrics.intervals import percentile_interval

Floats = NDArray[np.float64]
# By language, one number a row, [N]: right or wrong as 1 and 0, an answer's F1, 1 / rank … Or the
# values of an evaluator, [N, K], from which a figure is computed: counts of spans, gold and given.
Scores = Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Difference:
    """How the new model's figure differs from the old one's over n rows, both 1 at most.

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


def mean_of(values: Floats) -> float:
    """The figure where every row is scored by itself."""
    return float(values.mean())


def compare(
    old: Scores,
    new: Scores,
    *,
    metric: str = "accuracy",
    figure: Callable[[Floats], float] = mean_of,
    seed: int = 0,
    samples: int = 1000,
) -> Comparison:
    """Compares row by row: `old[language][i]` and `new[language][i]` are of one row.

    Args:
        old: the older model's scores.
        new: this model's.
        metric: what `figure` gives.
        figure: what is compared, of any rows of one language; larger is better.
        seed: of the bootstrap.
        samples: how often rows are drawn.

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
        # Seeded by language too: an interval must not move when another language joins the data.
        generator = np.random.default_rng([seed, zlib.crc32(language.encode())])
        gains = _drawn_gains(before_N, after_N, figure, generator, samples)
        drawn += gains / len(old)
        found[language] = _difference(len(before_N), figure(before_N), figure(after_N), gains)
    macro = _difference(
        sum(difference.n for difference in found.values()),
        float(np.mean([difference.old for difference in found.values()])),
        float(np.mean([difference.new for difference in found.values()])),
        drawn,
    )
    worst_first = sorted(found, key=lambda language: (found[language].difference, language))
    return Comparison(metric, {name: found[name] for name in worst_first}, macro, seed)


def _drawn_gains(
    before_N: Floats,
    after_N: Floats,
    figure: Callable[[Floats], float],
    generator: np.random.Generator,
    samples: int,
) -> Floats:
    rows = len(before_N)
    gains = np.empty(samples)
    for i in range(samples):  # one draw at a time: rows may be many, samples × rows must not be
        drawn_N = generator.integers(0, rows, rows)
        gains[i] = figure(after_N[drawn_N]) - figure(before_N[drawn_N])
    return gains


def _difference(n: int, old: float, new: float, drawn: Floats) -> Difference:
    low, high = percentile_interval(drawn, new - old)
    return Difference(n=n, old=old, new=new, difference=new - old, low=low, high=high)
