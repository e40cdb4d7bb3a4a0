from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.drift.reference import Expected, Judged, Reference
from xlmr.drift.signals import Signals, Sketch, empty_sketch
from xlmr.drift.tickets import e_bh, tickets

UNKNOWN = Judged([0] * 26, [0] * 26, [0] * 26)


@given(st.lists(st.floats(-5.0, 12.0), max_size=12), st.floats(0.01, 0.5))
def test_e_bh_is_what_it_is_defined_as(values: list[float], rate: float) -> None:
    tests = dict(enumerate(values))
    kept = e_bh(tests, rate=rate)
    ranked = sorted(values, reverse=True)
    sizes = [
        size
        for size in range(1, len(values) + 1)
        if ranked[size - 1] >= log(len(values) / (rate * size))
    ]
    assert len(kept) == max(sizes, default=0)
    if kept:
        others = [value for test, value in tests.items() if test not in kept]
        assert min(tests[test] for test in kept) >= max(others, default=-9.0)


def test_companions_help_each_other() -> None:
    """Two of four with 21 each pass at 0.1, where one alone would need 40."""
    strong = {"a": log(21.0), "b": log(21.0), "c": 0.0, "d": 0.0}
    assert e_bh(strong, rate=0.1) == {"a", "b"}
    assert e_bh(strong | {"b": 0.0}, rate=0.1) == set()


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_rate_that_cannot_be_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        e_bh({}, rate=rate)


def sketch(rng: np.random.Generator, rows: int, unsure: float) -> Sketch:
    found = empty_sketch(0)
    found.rows = rows
    low = int(rng.binomial(rows, unsure))
    found.bins["confidence"][10], found.bins["confidence"][20] = low, rows - low
    return found


LANGUAGES = ("de", "en", "sw", "th", "tr")


def test_tickets_name_languages_that_changed_and_the_mix() -> None:
    rng = np.random.default_rng(0)
    expected = {name: Expected(sketch(rng, 5000, 0.2), UNKNOWN) for name in LANGUAGES}
    before = Reference("classify", "shadow", (), expected, dict.fromkeys(LANGUAGES, 5000))
    usual = {name: sketch(rng, 1000, 0.2) for name in LANGUAGES}
    assert tickets(before, Signals("3", "classify", (), usual)) == []
    changed = usual | {"sw": sketch(rng, 1000, 0.35), "tr": sketch(rng, 2000, 0.2)}
    changed["xx"] = sketch(rng, 10, 0.9)
    found = tickets(before, Signals("3", "classify", (), changed))
    assert {(ticket.language, ticket.finding.signal) for ticket in found} == {
        ("sw", "confidence"),
        ("tr", "language"),
    }
    swahili = next(ticket for ticket in found if ticket.language == "sw")
    assert swahili.to_json()["finding"]["now"] == swahili.finding.now
    assert not swahili.finding.rising
