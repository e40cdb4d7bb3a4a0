"""Hits among events: likelihoods, mixtures over rates, and intervals that hold at all looks. Pure.

All values are natural logarithms; counts of 0 and of 10^9 are fine (error below 1e-4 there, from
the logarithm of the gamma function).
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, lgamma, log, log1p
from typing import NamedTuple

# Jeffreys' prior: intervals of rates near 0 stay short, and none is worse than √n times the best.
RATE_PRIOR = (0.5, 0.5)
# Halves an interval until doubles cannot tell its ends apart, also when the end is near 0.
_HALVINGS = 200


class Interval(NamedTuple):
    """Both ends are covered at all times together, with the confidence it was made for."""

    low: float
    high: float


def rate_interval(hits: int, events: int, *, alpha: float) -> Interval:
    """Which rates of hits the counts leave, at all looks together; (0, 1) without any.

    Raises:
        ValueError: counts that cannot be, or α not strictly between 0 and 1.
    """
    return interval(hits, events, RATE_PRIOR, alpha)


def interval(hits: int, events: int, prior: tuple[float, float], alpha: float) -> Interval:
    """Robbins' confidence sequence: the probabilities against which the mixture has not won.

    The likelihood is concave in the probability, so they are an interval around hits / events. Of
    the last two halvings the outer end is given: rounding never makes it shorter.

    Args:
        hits: events that fell so.
        events: all of them.
        prior: of the rate, as a and b of a Beta.
        alpha: of the interval missing the truth at any look.

    Raises:
        ValueError: counts that cannot be, or α not strictly between 0 and 1.
    """
    check_counts(hits, events)
    edge = log_mixture(hits, events, *prior) - log_threshold(alpha)

    def rejected(probability: float) -> bool:
        return log_likelihood(hits, events, probability) <= edge

    centre = hits / events if events else 0.5
    low = 0.0 if not rejected(0.0) else _outer_end(0.0, centre, rejected)
    high = 1.0 if not rejected(1.0) else _outer_end(1.0, centre, rejected)
    return Interval(low, high)


def log_threshold(alpha: float) -> float:
    """Where the logarithm of an e-process has used up α.

    Raises:
        ValueError: α is not strictly between 0 and 1.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
    return -log(alpha)


def log_mixture(hits: int, events: int, a: float, b: float) -> float:
    """Probability of one order of hits and misses when their rate is drawn from Beta(a, b)."""
    return (
        (lgamma(a + hits) - lgamma(a))
        + (lgamma(b + events - hits) - lgamma(b))
        - (lgamma(a + b + events) - lgamma(a + b))
    )


def log_likelihood(hits: int, events: int, probability: float) -> float:
    """Probability of one order of hits and misses at a rate; 0·log 0 is 0."""
    misses = events - hits
    found = 0.0
    if hits:
        found += hits * log(probability) if probability > 0.0 else -inf
    if misses:
        found += misses * log1p(-probability) if probability < 1.0 else -inf
    return found


def check_counts(hits: int, events: int) -> None:
    """Refuses what cannot be.

    Raises:
        ValueError: more hits than events, or fewer than none.
    """
    if not 0 <= hits <= events:
        raise ValueError(f"counts must be 0 <= hits <= events, got {hits} of {events}")


def _outer_end(outside: float, inside: float, rejected: Callable[[float], bool]) -> float:
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2.0
        if middle in (outside, inside):
            break
        outside, inside = (middle, inside) if rejected(middle) else (outside, middle)
    return outside
