"""Adds counts and weighs them until it is killed, and says how far it is."""

from __future__ import annotations

import sys

from tests.drift.parts import after, hour, reference

from xlmr.drift.detectors import Budget
from xlmr.drift.keeping import DriftStore


def main() -> None:
    store, number = DriftStore(sys.argv[1]), 0
    while True:
        spam = 0.2 if number < 20 else 0.3
        store.add("one", number, [hour(number, spam=spam)], now_s=after(number))
        store.step("router", "3", reference(), now_s=after(number), budget=Budget())
        print(number, flush=True)
        number += 1


if __name__ == "__main__":
    main()
