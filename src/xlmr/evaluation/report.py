"""A model's report, language by language: worst first, then what all of them say together."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from xlmr.errors import DataError
from xlmr.evaluation.metrics.draws import draw, whole
from xlmr.evaluation.metrics.intervals import percentile_interval
from xlmr.evaluation.tasks import Evaluator, Judged
from xlmr.text.script import is_english, script_of_key, script_of_texts

# Rows whose texts are asked for the script, where the language key does not say it.
_SCRIPT_ROWS = 200
_SAMPLES = 1000


@dataclass(frozen=True, slots=True)
class LanguageScore:
    """One language's result.

    Attributes:
        language: the key, as the data has it: `pt-BR`, `arb_Arab`.
        script: ISO 15924, of the key or else of most letters.
        n: rows.
        value: the metric.
        low: with `high`, bounds the metric with 95 % coverage.
        high: see `low`.
        more: the task's other figures. Those of calibration are large by chance with few rows.
        truncated: rows of which some was not read.
    """

    language: str
    script: str
    n: int
    value: float
    low: float
    high: float
    more: Mapping[str, float]
    truncated: int


@dataclass(frozen=True, slots=True)
class Report:
    """Every language and the summary; the same shape for every task.

    Attributes:
        metric: what `value` is; larger is better.
        languages: falling need of attention: lowest value first, ties by name.
        n: rows of all languages.
        macro: mean over languages, each counting the same.
        worst: the language with the lowest value.
        worst_value: its value.
        english: None where the data has no English; the mean of several Englishes.
        gap_to_english: that minus the mean of all other languages; None without both.
        seed: of the bootstrap.
        more_macro: the mean of each other figure over the languages that have it.
        truncated: rows of which some was not read.
    """

    metric: str
    languages: tuple[LanguageScore, ...]
    n: int
    macro: float
    worst: str
    worst_value: float
    english: float | None
    gap_to_english: float | None
    seed: int
    more_macro: Mapping[str, float]
    truncated: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return asdict(self)


def build_report(evaluator: Evaluator, judged: Sequence[Judged], *, seed: int = 0) -> Report:
    """Scores judged rows, of any languages in any order.

    Raises:
        DataError: no rows.
    """
    if not judged:
        raise DataError("nothing to report: no rows were answered")
    groups: dict[str, list[Judged]] = {}
    for row in judged:
        groups.setdefault(row.row.language, []).append(row)
    scores = sorted(
        (_score(evaluator, language, group, seed) for language, group in groups.items()),
        key=lambda score: (score.value, score.language),
    )
    english = [score.value for score in scores if is_english(score.language)]
    others = [score.value for score in scores if not is_english(score.language)]
    return Report(
        metric=evaluator.metric,
        languages=tuple(scores),
        n=len(judged),
        macro=float(np.mean([score.value for score in scores])),
        worst=scores[0].language,
        worst_value=scores[0].value,
        english=float(np.mean(english)) if english else None,
        gap_to_english=float(np.mean(english) - np.mean(others)) if english and others else None,
        seed=seed,
        more_macro=_means([score.more for score in scores]),
        truncated=sum(score.truncated for score in scores),
    )


def _score(
    evaluator: Evaluator, language: str, judged: Sequence[Judged], seed: int
) -> LanguageScore:
    values_NK = np.array([row.values for row in judged], np.float64)
    # Seeded by language as well: an interval must not move when another language joins the data.
    generator = np.random.default_rng([seed, zlib.crc32(language.encode())])
    drawn_S = np.concatenate(
        [
            evaluator.figures(values_NK, counts_SN)
            for counts_SN in draw(len(values_NK), _SAMPLES, generator)
        ]
    )
    value = whole(evaluator.figures, values_NK)
    low, high = percentile_interval(drawn_S, value)
    texts = (text for row in judged[:_SCRIPT_ROWS] for text in _own_texts(row.row))
    return LanguageScore(
        language=language,
        script=script_of_key(language) or script_of_texts(texts),
        n=len(judged),
        value=value,
        low=low,
        high=high,
        more=evaluator.more(judged),
        truncated=sum(row.truncated for row in judged),
    )


def _own_texts(row: Any) -> tuple[str, ...]:
    """The texts of a row that are in its language: of a bitext, not the English side."""
    texts: tuple[str, ...] = row.input
    return tuple(text for text in texts if text != getattr(row, "english", None))


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for each in figures for name in each)
    return {
        name: float(np.mean([each[name] for each in figures if name in each])) for name in names
    }
