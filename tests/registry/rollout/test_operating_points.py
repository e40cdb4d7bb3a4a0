"""What the test of harms does in the long run, simulated: the table of docs/rollout.md.

Evidence never falls with harm, so it is over as soon as as many events fall on the candidate as
`fewest_on_candidate` says: the function under test itself, asked once for each number of events.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from xlmr.registry.rollout.eprocess import (
    fewest_on_candidate,
    harm_log_e,
    label_mix_log_e,
    log_threshold,
    rate_interval,
    share_interval,
    tolerant_share,
)

ALPHA = 0.01
# Medians of an independent simulation: share of the candidate, times the harm, harm events.
TABLE = [
    (0.05, 1.5, 1210),
    (0.05, 2.0, 334),
    (0.05, 5.0, 65),
    (0.10, 1.5, 596),
    (0.10, 2.0, 218),
    (0.10, 5.0, 50),
    (0.50, 1.5, 304),
    (0.50, 2.0, 139),
    (0.50, 5.0, 57),
]
NEVER = 1 << 30


def boundary(events: int, share: float, alpha: float) -> NDArray[np.int64]:
    """By number of events, from 1: how many on the candidate are too many."""
    threshold = log_threshold(alpha)
    found, last = [], 0
    for n in range(1, events + 1):
        # It only grows with the number of events: the search starts where it was.
        while last <= n and harm_log_e(last, n, share) < threshold:
            last += 1
        found.append(last if last <= n else NEVER)
    return np.array(found)


def falls(rng: np.random.Generator, runs: int, events: int, share: float) -> NDArray[np.int32]:
    """How many of the first n events fell on the candidate, [runs, events]."""
    hits = rng.random((runs, events), dtype=np.float32) < share
    return np.cumsum(hits, axis=1, dtype=np.int32)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.5])
def test_boundary_is_what_the_function_says(share: float) -> None:
    limits = boundary(700, share, ALPHA)
    for n in (1, 5, 6, 50, 333, 700):
        fewest = fewest_on_candidate(n, share, log_threshold(ALPHA))
        assert limits[n - 1] == (NEVER if fewest is None else fewest)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.25, 0.5])
def test_one_good_candidate_in_a_hundred_goes_back_at_most(share: float) -> None:
    """4,000 events, looked at 40 times."""
    limits = boundary(4000, share, ALPHA)[99::100]
    fallen = falls(np.random.default_rng(20), 2000, 4000, share)[:, 99::100]
    assert (fallen >= limits).any(axis=1).mean() <= ALPHA


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_nor_when_every_event_is_looked_at(share: float) -> None:
    limits = boundary(4000, share, ALPHA)
    fallen = falls(np.random.default_rng(21), 2000, 4000, share)
    aborted = (fallen >= limits).any(axis=1).mean()
    assert 0.0 < aborted <= ALPHA


@pytest.mark.parametrize(("share", "harm", "expected"), TABLE)
def test_harm_is_found_as_soon_as_the_table_says(share: float, harm: float, expected: int) -> None:
    events = 5 * expected
    limits = boundary(events, share, ALPHA)
    fallen = falls(np.random.default_rng(22), 1500, events, tolerant_share(share, harm))
    over = fallen >= limits
    first = np.where(over.any(axis=1), over.argmax(axis=1) + 1, NEVER)
    assert np.median(first) == pytest.approx(expected, rel=0.2)


def test_a_weaker_or_stronger_prior_would_not_give_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tolerance of 20 % tells priors apart: at 5 times the harm these are off by more."""
    for strength in (20.0, 500.0):
        monkeypatch.setattr("xlmr.registry.rollout.eprocess.STRENGTH", strength)
        limits = boundary(400, 0.5, ALPHA)
        fallen = falls(np.random.default_rng(23), 500, 400, tolerant_share(0.5, 5.0))
        median = np.median((fallen >= limits).argmax(axis=1) + 1)
        assert abs(median / 57 - 1.0) > 0.2


@pytest.mark.parametrize(("share", "truth"), [(0.05, 0.05), (0.05, 0.2), (0.5, 0.6)])
def test_intervals_cover_the_truth_at_all_looks_together(share: float, truth: float) -> None:
    alpha, looks = 0.1, [10, 30, 100, 300, 1000]
    ends = {n: [share_interval(x, n, share, alpha=alpha) for x in range(n + 1)] for n in looks}
    fallen = falls(np.random.default_rng(24), 800, looks[-1], truth)
    missed = np.zeros(800, dtype=bool)
    for n in looks:
        low, high = np.array(ends[n]).T
        at = fallen[:, n - 1]
        missed |= (truth < low[at]) | (truth > high[at])
    assert missed.mean() <= alpha


def test_rates_are_covered_at_all_looks_together() -> None:
    alpha, looks, rate = 0.1, [10, 100, 1000, 4000], 0.01
    fallen = falls(np.random.default_rng(25), 1000, looks[-1], rate)
    missed = np.zeros(1000, dtype=bool)
    for n in looks:
        at = fallen[:, n - 1]
        ends = {x: rate_interval(x, n, alpha=alpha) for x in np.unique(at).tolist()}
        missed |= np.array([not ends[x].low <= rate <= ends[x].high for x in at.tolist()])
    assert missed.mean() <= alpha


@pytest.mark.parametrize("paired", [False, True])
def test_equal_label_mixes_are_seldom_told_apart_and_shuffled_ones_soon(paired: bool) -> None:
    rng = np.random.default_rng(26)
    share = 0.5 if paired else 0.05
    mix = np.array([0.6, 0.25, 0.1, 0.05])
    accused = found = 0
    runs = 400
    for _ in range(runs):
        accused += any(
            log_e >= log_threshold(0.05) for log_e in looks(rng, share, mix, mix, paired)
        )
        found += any(
            log_e >= log_threshold(ALPHA) for log_e in looks(rng, share, mix[::-1], mix, paired)
        )
    assert accused / runs <= 0.05
    assert found == runs


def looks(
    rng: np.random.Generator,
    share: float,
    candidate: NDArray[np.float64],
    live: NDArray[np.float64],
    paired: bool,
) -> list[float]:
    """Evidence at ten looks, 400 units apart (40 pairs apart)."""
    mine, theirs = np.zeros(4, dtype=int), np.zeros(4, dtype=int)
    found = []
    for _ in range(10):
        mine_new = 40 if paired else int(rng.binomial(400, share))
        theirs_new = 40 if paired else 400 - mine_new
        mine, theirs = (
            mine + rng.multinomial(mine_new, candidate),
            theirs + rng.multinomial(theirs_new, live),
        )
        found.append(
            label_mix_log_e(
                {str(k): int(n) for k, n in enumerate(mine)},
                {str(k): int(n) for k, n in enumerate(theirs)},
                share,
                paired=paired,
            )
        )
    assert all(math.isfinite(log_e) for log_e in found)
    return found
