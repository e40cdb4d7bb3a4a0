from __future__ import annotations

from math import comb, exp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.drift.bets import (
    LEAST_ROWS,
    MARGIN,
    Bets,
    Event,
    bets_of,
    bets_on_mix,
    bets_within,
    mix_counts,
    mix_names,
)
from xlmr.drift.reference import Expected, Judged, Reference
from xlmr.drift.signals import OTHER, SIGNALS, empty_sketch

ROWS = 12


def coin(hits: int, rows: int) -> Bets:
    return Bets([Event("coin", "heads", (1, 2))], {"coin": [rows - hits, hits]}, margin=MARGIN)


def expectation(bets: Bets, rate: float) -> float:
    """Of a fair gambler's fortune after `ROWS` tosses that fall so, over all there can be."""
    return sum(
        comb(ROWS, hits)
        * rate**hits
        * (1.0 - rate) ** (ROWS - hits)
        * exp(float(bets.mean_S(bets.log_e_K({"coin": [ROWS - hits, hits]}))[0]))
        for hits in range(ROWS + 1)
    )


@pytest.mark.parametrize(("hits", "rows"), [(100, 1000), (5, 10), (0, 2000), (2000, 2000)])
def test_nothing_is_won_while_the_rate_is_within_its_band(hits: int, rows: int) -> None:
    bets, share = coin(hits, rows), hits / rows
    for off in (-MARGIN, -MARGIN / 2.0, 0.0, MARGIN / 2.0, MARGIN):
        assert expectation(bets, min(max(share + off, 0.0), 1.0)) <= 1.0 + 1e-12


@pytest.mark.parametrize(("off", "wins"), [(0.2, True), (-0.2, True), (0.02, False)])
def test_much_is_won_well_outside(off: float, wins: bool) -> None:
    assert (expectation(coin(30_000, 100_000), 0.3 + off) > 1.2) is wins


def test_few_rows_make_the_band_wide() -> None:
    assert expectation(coin(3, 10), 0.55) < 1.0 < expectation(coin(3000, 10_000), 0.55)


COUNTS = st.lists(st.integers(0, 40), min_size=26, max_size=26)


@given(COUNTS, COUNTS, COUNTS)
def test_evidence_of_two_servers_adds_up(
    reference: list[int], one: list[int], other: list[int]
) -> None:
    sketch = empty_sketch(0)
    sketch.bins["confidence"] = reference
    bets = bets_within(sketch, ())
    both = [mine + theirs for mine, theirs in zip(one, other, strict=True)]
    parts = [bets.log_e_K(sketch.bins | {"confidence": counts}) for counts in (one, other, both)]
    np.testing.assert_allclose(parts[0] + parts[1], parts[2], atol=1e-9)


def test_a_signal_the_reference_knows_nothing_of_is_not_bet_on() -> None:
    sketch = empty_sketch(2)
    assert bets_within(sketch, ("spam", "ham")).findings(sketch.bins) == []
    sketch.bins["truncated"] = [50, 1]
    assert bets_within(sketch, ("spam", "ham")).signals == ("truncated",)


def test_the_finding_names_what_tells_most() -> None:
    before, now = empty_sketch(2), empty_sketch(2)
    before.bins["label"], now.bins["label"] = [800, 190, 10], [100, 95, 5]
    before.bins["abstained"] = now.bins["abstained"] = [900, 100]
    found = {one.signal: one for one in bets_within(before, ("spam", "ham")).findings(now.bins)}
    label = found["label"]
    assert (label.event, label.rising, label.was, label.now) == ("label spam", False, 0.8, 0.5)
    assert label.log_e > 10.0 > 0.0 > found["abstained"].log_e


def test_what_was_never_seen_tells_at_once() -> None:
    """Values beyond all of the reference's have a bet of their own."""
    before, now = empty_sketch(0), empty_sketch(0)
    before.bins["unknown_pieces"][0] = 5000
    now.bins["unknown_pieces"][1] = 10
    found = bets_within(before, ()).findings(now.bins)
    assert [(one.event, one.was, one.now) for one in found] == [("some unknown pieces", 0.0, 1.0)]
    assert found[0].log_e > 10.0


def test_no_rows_say_nothing() -> None:
    sketch = empty_sketch(2)
    for signal in SIGNALS:
        sketch.bins[signal][0] = 40
    bets = bets_within(sketch, ("spam", "ham"))
    assert not bets.log_e_K(empty_sketch(2).bins).any()


def test_languages_never_seen_before_are_one_event() -> None:
    mix = {"de": 600, "en": 400}
    names = mix_names(mix)
    counts = mix_counts({"en": 380, "de": 520, "sw": 60, "th": 40}, names)
    assert (names, counts) == (["de", "en", OTHER], [520, 380, 100])
    found = bets_on_mix(mix).findings({"language": counts})
    assert [(one.event, one.rising) for one in found] == [(OTHER, True)]
    assert found[0].log_e > 10.0


def test_without_a_mix_there_are_no_bets_on_it() -> None:
    assert bets_on_mix({}).findings({"language": [5]}) == []


def test_a_language_hardly_seen_at_release_is_not_watched_by_itself() -> None:
    def expected(rows: int) -> Expected:
        sketch = empty_sketch(0)
        sketch.rows = rows
        sketch.bins["tokens"][5] = rows
        nobody = [0] * len(sketch.millionths)
        return Expected(sketch, Judged(nobody, nobody, nobody))

    languages = {"de": expected(LEAST_ROWS), "eo": expected(LEAST_ROWS - 1)}
    reference = Reference("classify", "shadow", (), languages, {"de": 50, "eo": 49})
    assert list(bets_of(reference)) == ["de"]
    assert {event.name for event in bets_on_mix(reference.mix).events} == {"de", "eo", "*"}
