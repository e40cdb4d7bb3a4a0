"""Redacting takes no more than its share of time, and gives way text by text."""

from __future__ import annotations

import msgspec
import pytest

from xlmr.feedback.record import Record
from xlmr.serving.observing.thrift import Thrifty

RECORD = Record(id="r-0", at=0.0, model="router", version="3", task="classify", text="hello")


class Clocks:
    """Time as it is told; each text takes `cost` of work."""

    def __init__(self, cost: float) -> None:
        self.now, self.worked, self.cost, self.dropped = 100.0, 0.0, cost, 0

    def keep(self, record: Record) -> Record:
        self.worked += self.cost if record.text else 0.0
        return record

    def thrifty(self) -> Thrifty:
        def drop() -> None:
            self.dropped += 1

        return Thrifty(self.keep, on_drop=drop, clock=lambda: self.now, worked=lambda: self.worked)


@pytest.mark.parametrize(("cost", "kept"), [(0.0001, 1000), (0.01, 220), (0.5, 5)])
def test_of_ten_seconds_redacting_takes_about_two(cost, kept):
    clocks = Clocks(cost)
    thrifty = clocks.thrifty()
    texts = 0
    for _ in range(1000):
        clocks.now += 0.01
        texts += bool(thrifty(RECORD).text)
    assert texts == pytest.approx(kept, rel=0.1)
    assert clocks.dropped == 1000 - texts
    assert clocks.worked <= 10 * 0.2 + 0.2 + cost


def test_what_has_no_text_costs_nothing_and_is_always_kept():
    clocks = Clocks(10.0)
    thrifty = clocks.thrifty()
    assert thrifty(RECORD).text
    for _ in range(3):
        assert not thrifty(RECORD).text
        assert thrifty(msgspec.structs.replace(RECORD, text="")).id == "r-0"
    assert clocks.dropped == 3
