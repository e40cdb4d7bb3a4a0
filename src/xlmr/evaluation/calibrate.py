"""Makes probabilities honest, language by language, and says by how much. Pure: arrays in.

N rows, C classes. One divisor of the logits for each language: the t of lowest

    sum of its rows' log losses + 2 · log(1 + (log t - log T)² / (3 · spread²))

(a Student-t prior with 3 degrees of freedom) where T is what languages have in common. A language
with few rows, or rows that say little, follows the others; one with many, or one that is plainly
different, follows itself and does not loosen the others; one never seen gets T. With languages
enough T is their median, so that one with wrong labels cannot move it; else all rows' together,
which leans on 1.
`choose_temperatures` takes the spread, and whether a language is left alone, from rows that each
fit did not see; `cross_fit` does all of that without each row in turn, so that what it gives may be
judged on the very rows it came from. Labels that do not exclude each other are calibrated as so
many choices between two, by `as_choices`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.evaluation.metrics.calibration import (
    beyond_chance_interval,
    brier,
    ece,
    ece_beyond_chance,
    ece_by_chance,
    ece_interval,
    log_loss,
)
from xlmr.model.calibration import Temperatures

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]

FOLDS = 5
# Rows from which an ECE says something about one language.
ENOUGH_ROWS = 200
# Tried, rising: by how much languages' log temperatures may differ.
_SPREADS = (0.05, 0.1, 0.2, 0.4, 0.8)
_TAIL = 3.0
# A median of fewer languages, or of languages with fewer rows, is worse than all rows together.
# A language with fewer rows cannot show that it is right already, either.
_MEDIAN_LANGUAGES, _LEAST_ROWS = 5, 50
# How far that of all languages may be from 1: a few rows that are all right must not freeze it.
_WIDEST = 1.0
_COLDEST, _HOTTEST = 0.05, 20.0
_MOST_STEPS, _CLOSE = 60, 1e-9


@dataclass(frozen=True, slots=True)
class Honesty:
    """How honest one language's probabilities are, before and after; with 95 % intervals.

    `ece_by_chance`: what those after would measure, were every one of them true.
    `ece_beyond_chance`: root mean square gap of those after, without what chance adds.
    """

    language: str
    n: int
    temperature: float
    ece_before: float
    ece_before_interval: tuple[float, float]
    ece_after: float
    ece_after_interval: tuple[float, float]
    ece_by_chance: float
    ece_beyond_chance: float
    ece_beyond_chance_interval: tuple[float, float]
    brier_before: float
    brier_after: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return asdict(self)


def best_temperature(
    logits_NC: Floats, gold_N: Indices, *, prior: float = 1.0, spread: float = math.inf
) -> float:
    """The divisor of the logits, 0.05 to 20, of lowest log loss, drawn towards `prior`.

    Without a spread nothing draws it: where every row is right the best is infinite certainty, and
    the bound stands for it. Newton's steps on the slope in log t, halving where one leaves the
    range that is known to hold its zero.
    """
    logits_NC = logits_NC.astype(np.float64)
    logits_NC = logits_NC - logits_NC.max(axis=1, keepdims=True)
    gold = float(logits_NC[np.arange(len(gold_N)), gold_N].sum())
    low, high, home = math.log(_COLDEST), math.log(_HOTTEST), math.log(prior)
    found = min(max(home, low), high)
    for _ in range(_MOST_STEPS):
        inverse = math.exp(-found)
        powers_NC = np.exp(logits_NC * inverse)
        mass_N = powers_NC.sum(axis=1)
        mean_N = (powers_NC * logits_NC).sum(axis=1) / mass_N
        square_N = (powers_NC * logits_NC**2).sum(axis=1) / mass_N
        surprise = inverse * (gold - float(mean_N.sum()))
        away = (found - home) / spread
        pull = (_TAIL + 1.0) / (_TAIL + away**2) / spread
        slope = surprise + pull * away
        bend = inverse**2 * float((square_N - mean_N**2).sum()) - surprise + pull / spread
        low, high = (low, found) if slope > 0.0 else (found, high)
        step = found - slope / bend if bend > 0.0 else math.inf
        following = step if low < step < high else (low + high) / 2.0
        if abs(following - found) < _CLOSE:
            break
        found = following
    return math.exp(found)


def fit_temperatures(
    logits_NC: Floats, gold_N: Indices, languages: Sequence[str], *, spread: float = 0.25
) -> Temperatures:
    """One divisor for each language that has rows, and one for all; of one language just that.

    Raises:
        ValueError: no rows, lengths that differ, or a spread not above 0.
    """
    _check(logits_NC, gold_N, languages)
    if not spread > 0.0:
        raise ValueError("the spread is not above 0")
    everywhere = _common(logits_NC, gold_N, np.array(languages))
    return _fit_around(everywhere, logits_NC, gold_N, np.array(languages), spread)


def choose_temperatures(
    logits_NC: Floats, gold_N: Indices, languages: Sequence[str]
) -> Temperatures:
    """As `fit_temperatures`, with all that is chosen taken from rows that no fit of it saw.

    The spread is the one of lowest log loss, every language counting the same. A language
    of 50 rows or more whose log loss no temperature lowers keeps its outputs as they are; where its
    own is plainly worse than the common one, by more than a standard error, it gets that.
    Log loss and not ECE: over some hundred rows ECE is mostly chance, and choosing by it made
    languages worse on other rows.

    Raises:
        ValueError: no rows, or lengths that differ.
    """
    _check(logits_NC, gold_N, languages)
    language_N = np.array(languages)
    unseen = {spread: np.ones(len(gold_N)) for spread in _SPREADS}
    everywhere_N = np.ones(len(gold_N))
    for seen_N in _folds(language_N):
        seen = logits_NC[seen_N], gold_N[seen_N]
        everywhere = _common(*seen, language_N[seen_N])
        everywhere_N[~seen_N] = everywhere
        for spread in _SPREADS:
            fitted = _fit_around(everywhere, *seen, language_N[seen_N], spread)
            unseen[spread][~seen_N] = divisors(fitted, language_N[~seen_N].tolist())
    losses = {
        spread: _macro_loss(logits_NC / divisor_N[:, None], gold_N, language_N)
        for spread, divisor_N in unseen.items()
    }
    spread = min(losses, key=lambda one: (losses[one], one))
    fitted = fit_temperatures(logits_NC, gold_N, languages, spread=spread)
    kept = dict(fitted.by_language)
    for language in kept:
        here_N = language_N == language
        if here_N.sum() < _LEAST_ROWS:
            continue
        own_N, common_N, raw_N = (
            _losses(logits_NC[here_N] / divisor_N[here_N, None], gold_N[here_N])
            for divisor_N in (unseen[spread], everywhere_N, np.ones(len(gold_N)))
        )
        if raw_N.mean() <= min(own_N.mean(), common_N.mean()):
            kept[language] = 1.0
        elif _plainly_more(own_N, common_N):
            kept[language] = fitted.everywhere
    return Temperatures(fitted.everywhere, kept, spread)


def cross_fit(logits_NC: Floats, gold_N: Indices, languages: Sequence[str]) -> Floats:
    """Each row's divisor by `choose_temperatures` over the folds that it is not in, [N].

    Raises:
        ValueError: no rows, or lengths that differ.
    """
    _check(logits_NC, gold_N, languages)
    language_N = np.array(languages)
    found_N = np.ones(len(gold_N))
    for seen_N in _folds(language_N):
        chosen = choose_temperatures(logits_NC[seen_N], gold_N[seen_N], language_N[seen_N].tolist())
        found_N[~seen_N] = divisors(chosen, language_N[~seen_N].tolist())
    return found_N


def divisors(temperatures: Temperatures, languages: Sequence[str]) -> Floats:
    """The temperature of each row, [N]."""
    known = {language: temperatures.of(language) for language in set(languages)}
    return np.array([known[language] for language in languages])


def as_choices(
    logits_NC: Floats, gold_NC: Flags, languages: Sequence[str]
) -> tuple[Floats, Indices, list[str]]:
    """Rows of labels that do not exclude each other as N · C choices between without and with."""
    logits_M = logits_NC.astype(np.float64).ravel()
    classes = gold_NC.shape[1]
    repeated = [language for language in languages for _ in range(classes)]
    choices_M2 = np.stack([np.zeros_like(logits_M), logits_M], axis=1)
    return choices_M2, gold_NC.ravel().astype(np.int64), repeated


def probabilities(logits_NC: Floats, temperature: float = 1.0) -> Floats:
    """Softmax of the divided logits."""
    scaled_NC = logits_NC.astype(np.float64) / temperature
    powers_NC = np.exp(scaled_NC - scaled_NC.max(axis=1, keepdims=True))
    shares_NC: Floats = powers_NC / powers_NC.sum(axis=1, keepdims=True)
    return shares_NC


def judge_temperatures(
    divisor_N: Floats,
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
    if len(divisor_N) != len(gold_N):
        raise ValueError(f"{len(divisor_N)} temperatures for {len(gold_N)} rows")
    language_N = np.array(languages)
    found = []
    for language in sorted(set(map(str, languages))):
        here_N = language_N == language
        gold, divisor = gold_N[here_N], divisor_N[here_N]
        before_NC = probabilities(logits_NC[here_N])
        after_NC = probabilities(logits_NC[here_N] / divisor[:, None])
        right_N = before_NC.argmax(axis=1) == gold
        sure_N, honest_N = before_NC.max(axis=1), after_NC.max(axis=1)
        intervals = [
            # Seeded by language too: an interval must not move when another language joins.
            interval(
                confidence_N,
                right_N,
                generator=np.random.default_rng([seed, zlib.crc32(language.encode())]),
                samples=samples,
            )
            for interval, confidence_N in (
                (ece_interval, sure_N),
                (ece_interval, honest_N),
                (beyond_chance_interval, honest_N),
            )
        ]
        found.append(
            Honesty(
                language=language,
                n=len(gold),
                temperature=float(np.exp(np.log(divisor).mean())),
                ece_before=ece(sure_N, right_N),
                ece_before_interval=intervals[0],
                ece_after=ece(honest_N, right_N),
                ece_after_interval=intervals[1],
                ece_by_chance=ece_by_chance(honest_N, seed=seed),
                ece_beyond_chance=ece_beyond_chance(honest_N, right_N)[0],
                ece_beyond_chance_interval=intervals[2],
                brier_before=brier(before_NC, gold),
                brier_after=brier(after_NC, gold),
            )
        )
    return tuple(found)


def _common(logits_NC: Floats, gold_N: Indices, language_N: NDArray[np.str_]) -> float:
    pooled = best_temperature(logits_NC, gold_N, spread=_WIDEST)
    names, counts = np.unique(language_N, return_counts=True)
    large = names[counts >= _LEAST_ROWS]
    if len(large) < _MEDIAN_LANGUAGES:
        return pooled
    own = _fit_around(pooled, logits_NC, gold_N, language_N, _WIDEST).by_language
    return math.exp(float(np.median([math.log(own[name]) for name in large.tolist()])))


def _fit_around(
    everywhere: float,
    logits_NC: Floats,
    gold_N: Indices,
    language_N: NDArray[np.str_],
    spread: float,
) -> Temperatures:
    alone: dict[str, float] = {}
    names = np.unique(language_N).tolist()
    for language in names if len(names) > 1 else ():
        here_N = language_N == language
        alone[language] = best_temperature(
            logits_NC[here_N], gold_N[here_N], prior=everywhere, spread=spread
        )
    return Temperatures(everywhere, alone, spread)


def _folds(language_N: NDArray[np.str_]) -> list[Flags]:
    """For each fold the rows outside it, [N]; a language's rows take turns.

    Rows at the same place of two languages, which are often translations, share a fold. Two rows
    and more make folds of which none is empty on either side; one row alone has no folds.
    """
    place_N = np.zeros(len(language_N), np.int64)
    for language in np.unique(language_N):
        here_N = language_N == language
        place_N[here_N] = np.arange(here_N.sum())
    folds = min(FOLDS, int(place_N.max()) + 1)
    return [place_N % folds != fold for fold in range(folds)] if folds > 1 else []


def _macro_loss(logits_NC: Floats, gold_N: Indices, language_N: NDArray[np.str_]) -> float:
    each = [
        log_loss(logits_NC[language_N == language], gold_N[language_N == language])
        for language in np.unique(language_N)
    ]
    return float(np.mean(each))


def _losses(logits_NC: Floats, gold_N: Indices) -> Floats:
    """Log loss of each row, [N]."""
    shown_NC = probabilities(logits_NC)
    loss_N: Floats = -np.log(np.maximum(shown_NC[np.arange(len(gold_N)), gold_N], 1e-300))
    return loss_N


def _plainly_more(first_N: Floats, second_N: Floats) -> bool:
    """Whether the mean difference of paired rows is above its standard error."""
    difference_N = first_N - second_N
    return bool(difference_N.mean() > difference_N.std() / math.sqrt(len(difference_N)))


def _check(logits_NC: Floats, gold_N: Indices, languages: Sequence[str]) -> None:
    if len(gold_N) == 0 or not len(logits_NC) == len(gold_N) == len(languages):
        raise ValueError(f"{len(gold_N)} gold, {len(logits_NC)} predicted, {len(languages)} rows")
