"""Tests that may be looked at any moment: e-processes of counts, and intervals made of them. Pure.

An e-process is a bet against "no difference" that starts with 1 and cannot grow in expectation
while that holds: over all looks together it reaches 1/α with probability α at most (Ville). Nothing
here knows how often it was looked at, or when. All values are natural logarithms; counts of 0 and
of 10^9 are fine (error below 1e-4 there, from the logarithm of the gamma function).

Where requests are assigned by chance and the versions do not differ, each event falls on the
candidate with the probability `share`, however frequent events are and however that changes over
time. Betting on any other probability with a Beta(m·share, m·(1 - share)) prior gives one formula
of two integers. The strength m = 100 gives the operating points of docs/rollout.md.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from math import inf
from typing import TypeVar

from xlmr.binomial import RATE_PRIOR, check_counts, interval, log_likelihood, log_mixture
from xlmr.binomial import Interval as Interval
from xlmr.binomial import log_threshold as log_threshold
from xlmr.binomial import rate_interval as rate_interval

_Test = TypeVar("_Test", bound=Hashable)

STRENGTH = 100.0
# Right answers are scarce: a uniform prior needs the fewest where much is wrong.
_PAIRED_STRENGTH = 2.0


def beta_binomial_log_e(
    hits: int, events: int, share: float, *, strength: float | None = None
) -> float:
    """Evidence that `hits` of `events` do not fall with probability `share`, in any direction.

    Args:
        hits: events that fell so.
        events: all of them.
        share: expected of `hits`.
        strength: of the prior, in events it is worth; None for that of docs/rollout.md.

    Raises:
        ValueError: counts that cannot be, or a share not strictly between 0 and 1.
    """
    check_counts(hits, events)
    _check_share(share)
    worth = STRENGTH if strength is None else strength
    mixture = log_mixture(hits, events, worth * share, worth * (1.0 - share))
    return mixture - log_likelihood(hits, events, share)


def harm_log_e(
    on_candidate: int, events: int, share: float, *, strength: float | None = None
) -> float:
    """Evidence that more than `share` of harm events fall on the candidate.

    Never falls when one of the events is moved to the candidate, and holds whenever the candidate
    is as good as the live version or better. Left of its lowest point, which is
    share·(events - 1), the two-sided value is replaced by that lowest point.
    """
    check_counts(on_candidate, events)
    _check_share(share)
    lowest = min(events, max(0, math.ceil(share * (events - 1))))
    return beta_binomial_log_e(max(on_candidate, lowest), events, share, strength=strength)


def fewest_on_candidate(events: int, share: float, threshold: float) -> int | None:
    """How many of `events` must fall on the candidate for the evidence to reach the threshold.

    Args:
        events: harm events of both versions.
        share: the candidate's.
        threshold: a logarithm, as `log_threshold` gives it.

    Returns:
        None where not even all of them would do.
    """
    if harm_log_e(events, events, share) < threshold:
        return None
    low, high = -1, events
    while high - low > 1:
        middle = (low + high) // 2
        if harm_log_e(middle, events, share) >= threshold:
            high = middle
        else:
            low = middle
    return high


def sample_ratio_log_e(on_candidate: int, units: int, share: float) -> float:
    """Evidence that the router does not send `share` of what it assigns to the candidate."""
    return beta_binomial_log_e(on_candidate, units, share)


def label_mix_log_e(
    candidate: Mapping[str, int],
    live: Mapping[str, int],
    share: float,
    *,
    paired: bool = False,
) -> float:
    """Evidence that the two versions do not give the same labels equally often.

    A Dirichlet-multinomial over (version, label) against one over labels whose version is drawn by
    `share`: what is said about labels alone cancels, and a beta-binomial of each label is left.

    Args:
        candidate: answers by label.
        live: answers by label, of the same time.
        share: the candidate's.
        paired: both answered the same texts. Each difference then shows twice, as one label more
            and another one less; the root of the product is still an e-process (Cauchy-Schwarz).
    """
    found = sum(
        beta_binomial_log_e(mine, mine + live.get(label, 0), share)
        for label, mine in candidate.items()
    )
    found += sum(
        beta_binomial_log_e(0, theirs, share)
        for label, theirs in live.items()
        if label not in candidate
    )
    return found / 2.0 if paired else found


def paired_log_e(live_only: int, candidate_only: int) -> float:
    """Evidence that the candidate is right less often, by texts where one of the two is right.

    McNemar's test as an e-process: were they equally good, each such text would be a fair coin.

    Args:
        live_only: texts that only the live version got right.
        candidate_only: texts that only the candidate got right.
    """
    return harm_log_e(live_only, live_only + candidate_only, 0.5, strength=_PAIRED_STRENGTH)


def rate_log_e(events: int, units: int, rate: float) -> float:
    """Evidence that events are more frequent than `rate`; not above 0 where they are not.

    It reaches -ln α when, and only when, the lower end of `rate_interval` passes the rate.
    """
    check_counts(events, units)
    if rate >= 1.0 or events <= rate * units:
        return 0.0
    return log_mixture(events, units, *RATE_PRIOR) - log_likelihood(events, units, rate)


def share_interval(on_candidate: int, events: int, share: float, *, alpha: float) -> Interval:
    """Which probabilities of falling on the candidate the events leave, at all looks together.

    Args:
        on_candidate: events of the candidate.
        events: events of both versions.
        share: around which the interval is to be shortest.
        alpha: of the interval missing the truth at any look.
    """
    _check_share(share)
    return interval(on_candidate, events, (STRENGTH * share, STRENGTH * (1.0 - share)), alpha)


def ratio_interval(on_candidate: int, events: int, share: float, *, alpha: float) -> Interval:
    """The candidate's rate of harm as a multiple of the live version's: 1 is no difference."""
    found = share_interval(on_candidate, events, share, alpha=alpha)
    return Interval(_ratio(found.low, share), _ratio(found.high, share))


def difference_interval(
    on_candidate: int, events: int, units: int, share: float, *, alpha: float
) -> Interval:
    """The candidate's rate of harm minus the live version's, at all looks together.

    A share θ of the events falls on the candidate, and a rate r of all units is harmed: the
    difference is r·(θ - share) / (share·(1 - share)). Half of α goes to each of the two.

    Args:
        on_candidate: harm events of the candidate.
        events: harm events of both versions.
        units: requests (or callers) of both versions.
        share: the candidate's.
        alpha: of the interval missing the truth at any look.
    """
    theta = share_interval(on_candidate, events, share, alpha=alpha / 2.0)
    rate = rate_interval(events, units, alpha=alpha / 2.0)
    below, above = ((end - share) / (share * (1.0 - share)) for end in theta)
    low = below * (rate.low if below > 0.0 else rate.high)
    high = above * (rate.high if above > 0.0 else rate.low)
    return Interval(max(-1.0, min(low, 1.0)), max(-1.0, min(high, 1.0)))


def separate_difference_interval(
    candidate: int, candidate_units: int, live: int, live_units: int, *, alpha: float
) -> Interval:
    """The same difference where both versions answered the same requests.

    Nothing is assumed of how their harms go together, which makes it longer.
    """
    mine = rate_interval(candidate, candidate_units, alpha=alpha / 2.0)
    theirs = rate_interval(live, live_units, alpha=alpha / 2.0)
    return Interval(mine.low - theirs.high, mine.high - theirs.low)


def tolerant_share(share: float, ratio: float) -> float:
    """With what probability an event falls on a candidate that does `ratio` times the harm."""
    _check_share(share)
    return share * ratio / (share * ratio + 1.0 - share)


def split_alpha(alpha: float, weights: Mapping[_Test, float]) -> dict[_Test, float]:
    """The e-Bonferroni budget: α shared among tests by their weights, which need not sum to 1.

    However the tests depend on each other, the chance that any of them errs stays α at most.

    Raises:
        ValueError: a weight that is not above 0, or α not strictly between 0 and 1.
    """
    log_threshold(alpha)
    if not all(0.0 < weight < inf for weight in weights.values()):
        raise ValueError("weights must be finite and above 0")
    whole = math.fsum(weights.values())
    return {name: alpha * weight / whole for name, weight in weights.items()}


def _ratio(theta: float, share: float) -> float:
    if theta >= 1.0:
        return inf
    return theta / (1.0 - theta) * (1.0 - share) / share


def _check_share(share: float) -> None:
    if not 0.0 < share < 1.0:
        raise ValueError(f"a share must lie between 0 and 1, got {share}")
