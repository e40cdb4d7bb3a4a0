from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.errors import DataError
from xlmr.registry.rollout.burn import PAIRS, WINDOWS, Window, burn
from xlmr.registry.rollout.plan import Watch

WATCH = Watch(allowed=0.01, least_events=10)
CALM = Window(100_000, 100)


def windows(**harmed: tuple[int, int]) -> dict[int, Window]:
    """Units and harmed of windows by name; the others are calm."""
    names = {"m5": 300, "m30": 1800, "h1": 3600, "h6": 21_600}
    given_windows = {names[name]: Window(*found) for name, found in harmed.items()}
    return dict.fromkeys(WINDOWS, CALM) | given_windows


def test_the_pairs_are_those_of_the_notes_on_burn_rates() -> None:
    assert [(p.long_s, p.short_s, p.rate) for p in PAIRS] == [(3600, 300, 14.4), (21600, 1800, 6.0)]


@pytest.mark.parametrize(
    ("harmed", "rate"),
    [
        ({}, None),
        ({"m5": (1000, 144), "h1": (1000, 144)}, 14.4),
        ({"m5": (1000, 143), "h1": (1000, 144)}, None),
        ({"m5": (1000, 500)}, None),
        ({"h1": (1000, 500)}, None),
        ({"m30": (1000, 60), "h6": (1000, 60)}, 6.0),
        ({"m30": (1000, 59), "h6": (1000, 60)}, None),
        ({"m5": (9, 9), "h1": (9, 9)}, None),
        ({"m5": (10, 10), "h1": (10, 10)}, 14.4),
        ({"m5": (0, 0), "h1": (1000, 500)}, None),
    ],
)
def test_both_windows_of_a_pair_must_burn(
    harmed: dict[str, tuple[int, int]], rate: float | None
) -> None:
    found = burn(windows(**harmed), WATCH, units=5000)
    assert (found.breached.rate if found.breached else None) == rate
    assert found.sentence.startswith("Back: " if rate else "Watching: ")
    json.dumps(found.to_json(), allow_nan=False)


def test_nothing_seen_breaches_nothing() -> None:
    found = burn(dict.fromkeys(WINDOWS, Window(0, 0)), WATCH, units=0)
    assert found.breached is None
    assert found.rates == {}


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 1000))
def test_more_harm_never_ends_a_breach(harmed: int, more: int) -> None:
    less = burn(windows(m5=(2000, harmed), h1=(2000, harmed)), WATCH, units=1)
    both = harmed + more
    worse = burn(windows(m5=(2000, both), h1=(2000, both)), WATCH, units=1)
    assert less.breached is None or worse.breached is not None


def test_windows_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataError, match="1800"):
        burn({w: CALM for w in WINDOWS if w != 1800}, WATCH, units=1)
    for units, harmed in ((1, 2), (1, -1), (-1, -1)):
        with pytest.raises(DataError):
            Window(units, harmed)
