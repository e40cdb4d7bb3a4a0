from __future__ import annotations

import threading

import pytest
from tests.drift.parts import FIRST_HOUR, LABELS, reference

from xlmr.drift.keeping import HOUR_S
from xlmr.drift.signals import MOST_LABELS, Sight, Signals
from xlmr.serving.observing.sights import SightBook

SPAM = Sight(7, 20, 0, False, "spam", 0.9, 0.3, False)
NOW = FIRST_HOUR * HOUR_S + 5.0


def book(**more) -> SightBook:
    return SightBook(lambda model, version: None, **{"clock": lambda: NOW} | more)


def test_sights_are_counted_by_model_version_task_and_hour():
    times = iter([NOW, NOW, NOW + HOUR_S, NOW, NOW])
    seen = book(clock=lambda: next(times))
    for model, version, task in (*[("router", "3", "classify")] * 3, ("router", "4", "classify")):
        seen.see(model, version, task, LABELS, "de", SPAM)
    seen.see("router", "3", "embed", (), "de", SPAM)
    found = {(*each.watched, each.hour - FIRST_HOUR): each.signals for each in seen.drain()}
    rows = {place: signals.languages["de"].rows for place, signals in found.items()}
    assert rows == {
        ("router", "3", "classify", 0): 2,
        ("router", "3", "classify", 1): 1,
        ("router", "4", "classify", 0): 1,
        ("router", "3", "embed", 0): 1,
    }
    expected = Signals("4", "classify", ("ham", "spam"))
    expected.see("de", SPAM)
    assert found["router", "4", "classify", 0] == expected
    assert seen.drain() == []


@pytest.mark.parametrize(("task", "labels"), [("classify", LABELS), ("embed", ("a", "b"))])
def test_the_reference_says_which_labels_are_told_apart(task, labels):
    seen = SightBook(lambda model, version: reference(), clock=lambda: NOW)
    seen.see("router", "3", task, ("b", "a"), "de", SPAM)
    (counted,) = seen.drain()
    assert counted.signals.labels == labels


def test_of_very_many_labels_some_are_told_apart():
    seen = book()
    seen.see("router", "3", "classify", [f"{n:03}" for n in range(200)] * 2, "de", SPAM)
    assert len(seen.drain()[0].signals.labels) == MOST_LABELS


def test_what_finds_no_room_is_told_and_what_has_some_is_counted():
    lost = []
    seen = book(most_sketches=2, on_lost=lambda: lost.append(1))
    for language in ("de", "sw", "tr", "de"):
        seen.see("router", "3", "classify", LABELS, language, SPAM)
    seen.see("router", "4", "classify", LABELS, "de", SPAM)
    assert len(lost) == 2
    (counted,) = seen.drain()
    assert {name: sketch.rows for name, sketch in counted.signals.languages.items()} == {
        "de": 2,
        "sw": 1,
    }
    seen.see("router", "4", "classify", LABELS, "de", SPAM)
    assert len(seen.drain()) == 1
    assert len(lost) == 2


def test_nothing_is_lost_between_threads():
    seen, found = book(), []

    def see():
        for _ in range(500):
            seen.see("router", "3", "classify", LABELS, "de", SPAM)

    threads = [threading.Thread(target=see) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found += seen.drain()
    found += seen.drain()
    assert sum(each.signals.languages["de"].rows for each in found) == 2000
