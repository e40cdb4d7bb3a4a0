"""Counts reach the store once, whatever becomes of the way there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pytest

from xlmr.errors import RegistryUnavailableError
from xlmr.registry.rollout.burn import Window
from xlmr.registry.rollout.evidence import Counts, Evidence
from xlmr.serving.follow import ledger as module
from xlmr.serving.follow.ledger import Ledger


class Counted(NamedTuple):
    """As a tally drains it."""

    salt: str
    epoch: int
    evidence: Evidence
    minutes: Mapping[int, Window]


def counted(units: int, *, salt: str = "s", epoch: int = 0, minute: int = 100) -> Counted:
    evidence = Evidence(arms={"live": {"en": Counts(units=units)}})
    return Counted(salt, epoch, evidence, {minute: Window(units, 0)})


class Store:
    """Adds up as the real ones do; may fail before or after it has added."""

    kind = "fake"

    def __init__(self) -> None:
        self.last: dict[tuple[str, int, str], int] = {}
        self.units: dict[tuple[str, int], int] = {}
        self.minutes: dict[int, int] = {}
        self.fails = ""

    def add(self, salt, epoch, *, server, sequence, evidence, minutes):
        if self.fails == "before":
            raise RegistryUnavailableError("away")
        key = (salt, epoch, server)
        fresh = sequence > self.last.get(key, 0)
        if fresh:
            assert sequence == self.last.get(key, 0) + 1
            self.last[key] = sequence
            units = evidence.counts("live").units
            self.units[salt, epoch] = self.units.get((salt, epoch), 0) + units
            for minute, window in minutes.items():
                self.minutes[minute] = self.minutes.get(minute, 0) + window.units
        if self.fails == "after":
            raise RegistryUnavailableError("the answer was lost")
        return fresh


@pytest.mark.parametrize("fails", ["before", "after"])
def test_what_is_sent_again_counts_once(fails):
    ledger, store = Ledger("one"), Store()
    ledger.note([counted(5)])
    ledger.send(store)
    store.fails = fails
    for _ in range(3):
        ledger.note([counted(2, minute=101)])
        with pytest.raises(RegistryUnavailableError):
            ledger.send(store)
    store.fails = ""
    ledger.send(store)
    ledger.send(store)
    assert store.units == {("s", 0): 11}
    assert store.minutes == {100: 5, 101: 6}
    assert store.last == {("s", 0, "one"): 3}


def test_stages_are_apart():
    ledger, store = Ledger("one"), Store()
    ledger.note([counted(1), counted(2, epoch=1), counted(4, salt="t")])
    ledger.send(store)
    assert store.units == {("s", 0): 1, ("s", 1): 2, ("t", 0): 4}


def test_a_store_that_never_comes_back_costs_bounded_memory(monkeypatch, caplog):
    monkeypatch.setattr(module, "_MOST_STAGES", 3)
    ledger, store = Ledger("one"), Store()
    store.fails = "before"
    for minute in range(1000):
        ledger.note([counted(1, minute=minute)])
    for epoch in range(1, 6):
        ledger.note([counted(1, epoch=epoch)])
    store.fails = ""
    ledger.send(store)
    assert set(store.units) == {("s", 3), ("s", 4), ("s", 5)}
    assert "dropped" in caplog.text
    ledger.note([counted(1, epoch=6, minute=minute) for minute in range(1000)])
    store.minutes.clear()
    ledger.send(store)
    assert (store.units["s", 6], min(store.minutes), len(store.minutes)) == (1000, 639, 361)
