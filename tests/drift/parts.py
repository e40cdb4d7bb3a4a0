"""Traffic in whole numbers: hours of German and Swahili, with as much spam as one likes."""

from __future__ import annotations

import numpy as np

from xlmr.drift.keeping import HOUR_S, Counted, Watched
from xlmr.drift.reference import Expected, Judged, Reference
from xlmr.drift.signals import Signals, Sketch, empty_sketch

LABELS = ("spam", "ham")
FIRST_HOUR = 480_000
WATCHED = Watched("router", "3", "classify")


def sketch(spam: int, ham: int, *, confidence: float = 0.85) -> Sketch:
    """Rows whose label is known; all of one confidence."""
    found = empty_sketch(2)
    rows = found.rows = spam + ham
    found.bins["label"] = [spam, ham, 0]
    place = 16
    found.bins["confidence"][place] = rows
    found.millionths[place] = round(rows * confidence * 1_000_000)
    return found


def signals(**languages: Sketch) -> Signals:
    return Signals("3", "classify", LABELS, dict(languages))


def reference(*, mix: dict[str, int] | None = None, right: float = 0.85) -> Reference:
    of = {}
    for name in ("de", "sw"):
        seen = sketch(2000, 8000)
        rows = seen.bins["confidence"]
        judged = Judged(rows, [round(n * right) for n in rows], seen.millionths)
        of[name] = Expected(seen, judged)
    return Reference("classify", "held-out", LABELS, of, mix or {})


def hour(number: int, *, spam: float = 0.2, rows: int = 100) -> Counted:
    """An hour of traffic, always the same for its number."""
    hits = int(np.random.default_rng(number).binomial(rows, spam))
    counts = signals(de=sketch(hits, rows - hits), sw=sketch(20, 80))
    return Counted("router", FIRST_HOUR + number, counts)


def after(number: int) -> float:
    """The time of day when an hour, and all grace, is over."""
    return float((FIRST_HOUR + number + 1) * HOUR_S + 600)
