"""Keeps records until it is killed, and says which are kept."""

from __future__ import annotations

import sys

from tests.feedback.parts import record

from xlmr.feedback.store import Store


def main() -> None:
    store = Store(sys.argv[1])
    number = 0
    while True:
        store.add([record(number + n) for n in range(20)])
        number += 20
        print(number, flush=True)


if __name__ == "__main__":
    main()
