"""The traffic of docs/drift.md, shorter: nothing is found where nothing is, the rest rightly."""

from __future__ import annotations

import numpy as np
import pytest
from tests.drift.simulation import load

from xlmr.drift.detectors import Budget, Watch
from xlmr.drift.signals import Sight, Signals

SIMULATED = load()
MOST_ERROR = 3.0


def test_the_tables_count_as_servers_do() -> None:
    rng = np.random.default_rng(0)
    columns = SIMULATED.texts(rng, "sw", SIMULATED.Traffic(touched=0.5, unknown=0.02), 300)
    signals = Signals("3", "classify", SIMULATED.LABELS)
    for place in range(300):
        row = {name: column[place].item() for name, column in columns.items() if name != "right"}
        signals.see("sw", Sight(**row | {"label": SIMULATED.LABELS[row["label"]]}))
    assert signals.languages["sw"] == SIMULATED.sketch_of(columns)


def test_thirty_days_without_drift_keep_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """A month in thirty languages by four windows a day; the page has more, by the hour."""
    monkeypatch.setattr(SIMULATED, "PER_HOUR", 1500)
    rng = np.random.default_rng(11)
    watch = Watch(SIMULATED.released(rng), Budget(alarms_a_month=1.0, windows_a_day=4))
    steps = SIMULATED.watched(
        rng, watch, SIMULATED.USUAL, first_hour=0, hours=24 * 30, hours_a_window=6
    )
    assert sum(len(alarms) for _, alarms in steps) <= 1


@pytest.mark.parametrize("name", SIMULATED.CHANGES)
def test_a_change_is_found_and_nobody_else_accused(name: str) -> None:
    world, language, kind = SIMULATED.CHANGES[name]
    found = SIMULATED.find(4, world, language, kind, days=1)
    assert found.requests is not None
    assert found.requests < (1500 if kind == "within" else 20_000)
    assert found.others == 0


@pytest.mark.parametrize("sureness", [1.0, 1.3])
@pytest.mark.parametrize("name", SIMULATED.SHIFTS)
def test_accuracy_is_estimated_without_labels(name: str, sureness: float) -> None:
    error, moved, holds = SIMULATED.estimates(
        SIMULATED.SHIFTS[name], sureness=sureness, seeds=range(2)
    )
    assert error < MOST_ERROR / 2.0
    assert holds >= 0.88
    assert (moved < -8.0) is (name != "as at release")
