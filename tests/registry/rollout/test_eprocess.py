from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.registry.rollout import eprocess
from xlmr.registry.rollout.eprocess import (
    beta_binomial_log_e,
    difference_interval,
    fewest_on_candidate,
    harm_log_e,
    label_mix_log_e,
    log_threshold,
    paired_log_e,
    rate_interval,
    rate_log_e,
    ratio_interval,
    separate_difference_interval,
    share_interval,
    split_alpha,
    tolerant_share,
)

SHARES = st.sampled_from([0.0001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.9])
MANY = 10**9


@st.composite
def hits_and_events(draw: st.DrawFn, most: int = MANY) -> tuple[int, int]:
    events = draw(st.integers(0, most))
    return draw(st.integers(0, events)), events


# Logarithm of the integral over the Beta prior divided by the binomial likelihood, by mpmath's
# numerical quadrature at 60 digits, which knows no gamma function.
BY_QUADRATURE = [
    (0, 0, 0.05, 0.0),
    (3, 10, 0.5, 0.0255265635817774),
    (9, 30, 0.05, 2.97991616071241),
    (7, 7, 0.01, 8.31956981522783),
    (0, 200, 0.25, 27.6185461661809),
    (40, 65, 0.5, 0.435554219611144),
]
# The same from mpmath's loggamma at 60 digits.
AT_A_BILLION = [
    (0, MANY, 0.05, 51293213.644244257),
    (MANY, MANY, 0.05, 2995730660.79988303),
    (50_000_000, MANY, 0.05, -8.0757364241849866),
    (50_100_000, MANY, 0.05, 97.12004919265036),
    (500_000_000, MANY, 0.5, -8.06154783356748924),
]


@pytest.mark.parametrize(("hits", "events", "share", "expected"), BY_QUADRATURE)
def test_evidence_is_the_integral_it_stands_for(
    hits: int, events: int, share: float, expected: float
) -> None:
    assert beta_binomial_log_e(hits, events, share) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("hits", "events", "share", "expected"), AT_A_BILLION)
def test_a_billion_events_lose_no_digit_that_matters(
    hits: int, events: int, share: float, expected: float
) -> None:
    assert beta_binomial_log_e(hits, events, share) == pytest.approx(expected, rel=1e-12, abs=1e-4)


def bet(outcomes: list[bool], share: Fraction, *, strength: int = 100) -> Fraction:
    """Fortune after betting on each event in turn, by Laplace's rule of succession; exact."""
    fortune, hits = Fraction(1), 0
    for seen, outcome in enumerate(outcomes):
        belief = (strength * share + hits) / (strength + seen)
        fortune *= belief / share if outcome else (1 - belief) / (1 - share)
        hits += outcome
    return fortune


@settings(deadline=None)
@given(
    st.lists(st.booleans(), max_size=60),
    st.sampled_from([Fraction(1, 20), Fraction(1, 4), Fraction(1, 2), Fraction(1, 100)]),
)
def test_evidence_is_the_fortune_of_a_gambler_in_any_order(
    outcomes: list[bool], share: Fraction
) -> None:
    expected = math.log(bet(outcomes, share))
    found = beta_binomial_log_e(sum(outcomes), len(outcomes), float(share))
    assert found == pytest.approx(expected, abs=1e-10)


@settings(deadline=None)
@given(hits_and_events(300), SHARES)
def test_the_next_event_adds_nothing_in_expectation(counts: tuple[int, int], share: float) -> None:
    hits, events = counts
    now = beta_binomial_log_e(hits, events, share)
    hit = beta_binomial_log_e(hits + 1, events + 1, share) - now
    miss = beta_binomial_log_e(hits, events + 1, share) - now
    assert share * math.exp(hit) + (1.0 - share) * math.exp(miss) == pytest.approx(1.0, abs=1e-9)


@settings(deadline=None)
@given(hits_and_events(), SHARES)
def test_evidence_of_harm_is_a_number_and_never_above_the_two_sided_one(
    counts: tuple[int, int], share: float
) -> None:
    found = harm_log_e(*counts, share)
    assert math.isfinite(found)
    assert found <= beta_binomial_log_e(*counts, share) + 1e-4


@settings(deadline=None)
@given(st.integers(1, 400), SHARES)
def test_evidence_of_harm_never_falls_with_harm(events: int, share: float) -> None:
    values = [harm_log_e(hits, events, share) for hits in range(events + 1)]
    assert all(one <= other + 1e-9 for one, other in pairwise(values))


@settings(deadline=None)
@given(st.integers(0, MANY), SHARES)
def test_a_candidate_that_never_fails_is_never_accused(live: int, share: float) -> None:
    assert harm_log_e(0, live, share) <= 1e-4


@settings(deadline=None)
@given(st.integers(0, 3000), SHARES, st.floats(0.5, 12.0))
def test_the_fewest_are_enough_and_one_less_is_not(
    events: int, share: float, threshold: float
) -> None:
    fewest = fewest_on_candidate(events, share, threshold)
    if fewest is None:
        assert harm_log_e(events, events, share) < threshold
        return
    assert harm_log_e(fewest, events, share) >= threshold
    assert fewest == 0 or harm_log_e(fewest - 1, events, share) < threshold


LABELS = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 40), max_size=5)


@settings(deadline=None)
@given(LABELS, LABELS)
def test_label_mix_is_the_ratio_of_dirichlet_multinomials(
    candidate: dict[str, int], live: dict[str, int]
) -> None:
    """In exact fractions: over cells of (version, label), against labels and versions by share."""
    share = Fraction(1, 4)
    labels = sorted({*candidate, *live})
    cells = [(100 * share, candidate.get(label, 0)) for label in labels]
    cells += [(100 * (1 - share), live.get(label, 0)) for label in labels]
    sums = [(Fraction(100), candidate.get(x, 0) + live.get(x, 0)) for x in labels]
    mine, theirs = sum(candidate.values()), sum(live.values())
    null = dirichlet(sums) * share**mine * (1 - share) ** theirs
    expected = math.log(dirichlet(cells) / null)
    assert label_mix_log_e(candidate, live, 0.25) == pytest.approx(expected, abs=1e-8)


def dirichlet(cells: list[tuple[Fraction, int]]) -> Fraction:
    """Probability of one order of draws: each cell its weight and its count."""

    def rising(start: Fraction, count: int) -> Fraction:
        return math.prod((start + i for i in range(count)), start=Fraction(1))

    whole = rising(sum((weight for weight, _ in cells), Fraction(0)), sum(n for _, n in cells))
    return math.prod((rising(weight, n) for weight, n in cells), start=Fraction(1)) / whole


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), max_size=40),
    st.tuples(st.sampled_from("abc"), st.sampled_from("abc")),
)
def test_paired_label_mix_adds_nothing_in_expectation(
    seen: list[tuple[str, str]], answers: tuple[str, str]
) -> None:
    """Were the versions alike, a text's two answers could as well have come the other way round."""

    def log_e(pairs: list[tuple[str, str]]) -> float:
        mine = {x: sum(one == x for one, _ in pairs) for x in "abc"}
        theirs = {x: sum(other == x for _, other in pairs) for x in "abc"}
        return label_mix_log_e(mine, theirs, 0.5, paired=True)

    now = log_e(seen)
    one = math.exp(log_e([*seen, answers]) - now)
    other = math.exp(log_e([*seen, answers[::-1]]) - now)
    assert (one + other) / 2.0 <= 1.0 + 1e-9


def test_paired_evidence_is_a_fair_coin_and_looks_one_way() -> None:
    coins = bet([True] * 30 + [False] * 5, Fraction(1, 2), strength=2)
    assert paired_log_e(30, 5) == pytest.approx(math.log(coins))
    assert paired_log_e(30, 5) > 4.0
    assert paired_log_e(5, 30) < 0.0
    assert paired_log_e(0, 0) == 0.0


# Ends by bisection at 60 digits with mpmath's loggamma.
RATES = [
    (0, 100, 0.05, 0.0, 0.0570285976388),
    (5, 100, 0.05, 0.0071494789326, 0.155794443541),
    (100, 100, 0.01, 0.92791633903, 1.0),
    (1, 10**6, 0.01, 2.82095693337e-12, 1.55204936089e-5),
    (10**7, 10**9, 0.01, 0.00998266595238, 0.0100173538993),
]


@pytest.mark.parametrize(("events", "units", "alpha", "low", "high"), RATES)
def test_rate_interval_ends_where_the_mixture_wins(
    events: int, units: int, alpha: float, low: float, high: float
) -> None:
    found = rate_interval(events, units, alpha=alpha)
    assert found == pytest.approx((low, high), rel=1e-7, abs=1e-300)


@pytest.mark.parametrize(
    ("hits", "events", "share", "alpha", "low", "high"),
    [
        (0, 20, 0.05, 0.05, 0.0, 0.178530658832),
        (8, 100, 0.05, 0.05, 0.0255135366785, 0.176273354316),
        (60, 100, 0.5, 0.01, 0.428022491729, 0.756644659723),
    ],
)
def test_share_interval_ends_where_the_mixture_wins(
    hits: int, events: int, share: float, alpha: float, low: float, high: float
) -> None:
    found = share_interval(hits, events, share, alpha=alpha)
    assert found == pytest.approx((low, high), rel=1e-10)
    expected = [end / (1 - end) * (1 - share) / share for end in (low, high)]
    assert ratio_interval(hits, events, share, alpha=alpha) == pytest.approx(expected, rel=1e-9)


def test_no_data_leaves_everything_open() -> None:
    assert rate_interval(0, 0, alpha=0.05) == (0.0, 1.0)
    assert share_interval(0, 0, 0.05, alpha=0.05) == (0.0, 1.0)
    assert ratio_interval(0, 0, 0.05, alpha=0.05) == (0.0, math.inf)
    assert difference_interval(0, 0, 0, 0.05, alpha=0.05) == (-1.0, 1.0)
    assert separate_difference_interval(0, 0, 0, 0, alpha=0.05) == (-1.0, 1.0)


@settings(deadline=None)
@given(hits_and_events(), st.floats(1e-9, 0.5))
def test_intervals_hold_what_was_seen(counts: tuple[int, int], alpha: float) -> None:
    hits, events = counts
    low, high = rate_interval(hits, events, alpha=alpha)
    assert 0.0 <= low <= high <= 1.0
    if events:
        assert low <= hits / events <= high


@settings(deadline=None)
@given(hits_and_events(10**6), SHARES, st.floats(1e-6, 0.4))
def test_share_interval_and_evidence_agree(
    counts: tuple[int, int], share: float, alpha: float
) -> None:
    low, high = share_interval(*counts, share, alpha=alpha)
    evidence = beta_binomial_log_e(*counts, share)
    if abs(evidence - log_threshold(alpha)) > 1e-6:
        assert (low <= share <= high) == (evidence < log_threshold(alpha))


@settings(deadline=None)
@given(hits_and_events(10**6), st.floats(0.001, 0.9), st.floats(1e-6, 0.4))
def test_rate_evidence_and_interval_agree(
    counts: tuple[int, int], rate: float, alpha: float
) -> None:
    evidence = rate_log_e(*counts, rate)
    low = rate_interval(*counts, alpha=alpha).low
    if abs(evidence - log_threshold(alpha)) > 1e-6:
        assert (evidence >= log_threshold(alpha)) == (low >= rate)


@settings(deadline=None)
@given(hits_and_events(10**4), st.integers(0, 10**5), SHARES)
def test_difference_holds_what_was_seen_and_shortens_with_confidence(
    counts: tuple[int, int], fine: int, share: float
) -> None:
    hits, events = counts
    units = events + fine
    wide = difference_interval(hits, events, units, share, alpha=0.01)
    narrow = difference_interval(hits, events, units, share, alpha=0.2)
    assert -1.0 <= wide.low <= narrow.low <= narrow.high <= wide.high <= 1.0
    if units:
        theta, rate = hits / events if events else share, events / units
        seen = rate * (theta - share) / (share * (1.0 - share))
        assert wide.low - 1e-12 <= max(-1.0, min(1.0, seen)) <= wide.high + 1e-12


def test_difference_without_any_harm_shrinks_with_units() -> None:
    highs = [difference_interval(0, 0, n, 0.05, alpha=0.05).high for n in (100, 10**4, 10**6, MANY)]
    assert highs == sorted(highs, reverse=True)
    assert highs[-1] < 1e-6


def test_budgets_add_up_and_thresholds_are_their_logarithms() -> None:
    split = split_alpha(0.01, {"a": 1.0, "b": 3.0})
    assert split == pytest.approx({"a": 0.0025, "b": 0.0075})
    assert log_threshold(0.01) == pytest.approx(math.log(100.0))
    assert split_alpha(0.01, {}) == {}


def test_tolerated_harm_moves_the_share() -> None:
    assert tolerant_share(0.5, 1.0) == 0.5
    assert tolerant_share(0.5, 3.0) == 0.75
    assert harm_log_e(70, 100, tolerant_share(0.5, 3.0)) < 0.0 < harm_log_e(70, 100, 0.5)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
def test_shares_that_cannot_be_are_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        harm_log_e(1, 2, share)


def test_counts_and_budgets_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="counts"):
        beta_binomial_log_e(3, 2, 0.5)
    with pytest.raises(ValueError, match="counts"):
        rate_interval(-1, 2, alpha=0.1)
    for alpha in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="alpha"):
            split_alpha(alpha, {"a": 1.0})
    for weight in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="weights"):
            split_alpha(0.01, {"a": weight})


def test_the_prior_is_the_one_of_the_documented_operating_points() -> None:
    assert eprocess.STRENGTH == 100.0
