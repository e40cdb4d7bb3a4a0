"""Writes records where no file may grow beyond so many bytes; says what was dropped and kept."""

from __future__ import annotations

import json
import resource
import signal
import sys

from tests.feedback.parts import record

from xlmr.feedback.store import Store
from xlmr.feedback.writer import Writer


def main() -> None:
    store = Store(sys.argv[1])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    dropped: list[int] = []
    writer = Writer(
        store,
        lambda kept: kept,
        on_drop=lambda records, reason: dropped.append(records),
        gathering_s=0.01,
    )
    writer.put(record(0))
    writer.flush(60)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, most))
    for number in range(1, 3000):
        writer.put(record(number, text="x" * 1000))
    writer.flush(60)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    full = sum(dropped)
    writer.put(record(9999))
    writer.close(60)
    kept = [r.id for r in store.records()]
    print(json.dumps({"dropped": full, "after": sum(dropped) - full, "kept": kept}))


if __name__ == "__main__":
    main()
