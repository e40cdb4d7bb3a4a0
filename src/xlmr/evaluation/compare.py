"""Two models on the same rows: who is better, where, and could it be chance? Pure.

Paired: every drawn row brings both models' scores with it, so what makes a row hard for both
cancels out. Macro: every language counts the same; rows are drawn within each language, but rows
that are translations of one another together, since they are hard or easy together.

Shapes: S draws, N rows of a language, K values a row, O originals of translations.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from xlmr.errors import DataError
from xlmr.evaluation.metrics.draws import Figures, Floats, draw, means, whole
from xlmr.evaluation.metrics.intervals import percentile_interval
from xlmr.evaluation.translations import ToldBy, Translations

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
        together: by what rows of several languages were told to be translations, which the macro's
            interval draws together; None where it draws every row by itself.
    """

    metric: str
    languages: Mapping[str, Difference]
    macro: Difference
    seed: int
    together: ToldBy | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`; `languages` is a list, worst first."""
        rows = [{"language": name} | asdict(found) for name, found in self.languages.items()]
        return asdict(self) | {"languages": rows}


def compare(
    old: Scores,
    new: Scores,
    *,
    metric: str = "accuracy",
    figures: Figures = means,
    translations: Translations | None = None,
    seed: int = 0,
    samples: int = 1000,
) -> Comparison:
    """Compares row by row: `old[language][i]` and `new[language][i]` are of one row.

    Args:
        old: the older model's scores.
        new: this model's.
        metric: what `figures` gives.
        figures: what is compared, of any rows of one language; larger is better.
        translations: which of the rows are; None where all rows are independent.
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
    gains: dict[str, Floats] = {}
    found: dict[str, Difference] = {}
    for language in sorted(old):
        before_NK, after_NK = old[language], new[language]
        if len(before_NK) == 0 or len(before_NK) != len(after_NK):
            raise DataError(f"{language}: {len(before_NK)} rows against {len(after_NK)}")
        # Seeded by language too: an interval must not move when another language joins the data.
        generator = np.random.default_rng([seed, zlib.crc32(language.encode())])
        gains[language] = np.concatenate(
            [
                figures(after_NK, counts_SN) - figures(before_NK, counts_SN)
                for counts_SN in draw(len(before_NK), samples, generator)
            ]
        )
        before, after = whole(figures, before_NK), whole(figures, after_NK)
        found[language] = _difference(len(before_NK), before, after, gains[language])
    if translations is not None:
        gains = _drawn_together(old, new, figures, translations, gains, seed)
    macro = _difference(
        sum(difference.n for difference in found.values()),
        float(np.mean([difference.old for difference in found.values()])),
        float(np.mean([difference.new for difference in found.values()])),
        np.mean(list(gains.values()), axis=0),
    )
    worst_first = sorted(found, key=lambda language: (found[language].difference, language))
    return Comparison(
        metric,
        {name: found[name] for name in worst_first},
        macro,
        seed,
        translations.told_by if translations is not None else None,
    )


def _drawn_together(
    old: Scores,
    new: Scores,
    figures: Figures,
    translations: Translations,
    alone: Mapping[str, Floats],
    seed: int,
) -> dict[str, Floats]:
    """Each language's gains in draws of originals: one draw brings what all languages have of it.

    Args:
        alone: the gains in draws of each language's own rows. They stand in where a draw brings
            nothing of a language, which happens with a handful of rows only.
    """
    gains = {language: gains_S.copy() for language, gains_S in alone.items()}
    samples, done = len(next(iter(gains.values()))), 0
    for counts_SO in draw(translations.originals, samples, np.random.default_rng(seed)):
        block = slice(done, done + len(counts_SO))
        for language, gains_S in gains.items():
            counts_SN = counts_SO[:, translations.places[language]]
            drawn_S = figures(new[language], counts_SN) - figures(old[language], counts_SN)
            gains_S[block] = np.where(counts_SN.any(axis=1), drawn_S, gains_S[block])
        done += len(counts_SO)
    return gains


def _difference(n: int, old: float, new: float, drawn: Floats) -> Difference:
    low, high = percentile_interval(drawn, new - old)
    return Difference(n=n, old=old, new=new, difference=new - old, low=low, high=high)
