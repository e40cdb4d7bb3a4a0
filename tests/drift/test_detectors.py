from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.drift.detectors import Budget, Watch
from xlmr.drift.reference import Expected, Judged, Reference
from xlmr.drift.signals import Signals, Sketch, empty_sketch
from xlmr.errors import DataError

LABELS = ("spam", "ham")


def labelled(spam: int, ham: int) -> Sketch:
    sketch = empty_sketch(2)
    sketch.rows = spam + ham
    sketch.bins["label"] = [spam, ham, 0]
    return sketch


def seen(**languages: Sketch) -> Signals:
    return Signals("3", "classify", LABELS, dict(languages))


def reference(*, mix: dict[str, int] | None = None) -> Reference:
    unknown = Judged([0] * 26, [0] * 26, [0] * 26)
    languages = {name: Expected(labelled(2000, 8000), unknown) for name in ("de", "sw")}
    return Reference("classify", "shadow", LABELS, languages, mix or {})


REFERENCE = reference()


def windows(seed: int, number: int, *, spam: float = 0.2) -> Iterator[tuple[int, Signals]]:
    rng = np.random.default_rng(seed)
    for window in range(number):
        hits = int(rng.binomial(100, spam))
        yield window, seen(de=labelled(hits, 100 - hits), sw=labelled(20, 80))


def test_what_changes_is_named_with_its_beginning() -> None:
    watch = Watch(REFERENCE)
    alarms = [alarm for window, rows in windows(1, 24) for alarm in watch.step(window, rows)]
    assert alarms == []
    for window, rows in windows(2, 24, spam=0.4):
        alarms += watch.step(24 + window, rows)
    first = alarms[0]
    assert {(alarm.kind, alarm.language) for alarm in alarms} == {("within", "de")}
    assert 22 <= first.since <= first.window <= 30
    assert (first.finding.event, first.finding.rising, first.finding.was) in (
        ("label spam", True, 0.2),
        ("label ham", False, 0.8),
    )
    assert json.loads(json.dumps(first.to_json()))["finding"]["signal"] == "label"


def test_a_signal_that_alarmed_starts_anew() -> None:
    watch = Watch(REFERENCE)
    for window, rows in windows(2, 60, spam=0.4):
        if watch.step(window, rows):
            assert watch.levels()["de"]["label"] == 0.0
            return
    raise AssertionError("no alarm")


@pytest.mark.parametrize("stop", range(0, 30, 3))
def test_a_restart_changes_nothing(stop: int) -> None:
    """A process that ends after any window, and another that goes on with what it wrote."""
    whole = Watch(reference(mix={"de": 50, "sw": 50}))
    halved = Watch(reference(mix={"de": 50, "sw": 50}))
    for window, rows in windows(3, 30, spam=0.26):
        expected = whole.step(window, rows)
        if window == stop:
            written = json.dumps(halved.to_json())
            halved = Watch.from_json(json.loads(written), reference(mix={"de": 50, "sw": 50}))
        assert halved.step(window, rows) == expected
    assert halved.to_json() == whole.to_json()


def test_a_window_counts_once() -> None:
    watch = Watch(REFERENCE)
    rows = seen(de=labelled(60, 40))
    watch.step(5, rows)
    state = watch.to_json()
    for window in (5, 4):
        assert watch.step(window, rows) == []
    assert watch.to_json() == state


def test_counts_of_servers_added_first_are_those_of_one() -> None:
    one, sharded = Watch(REFERENCE), Watch(REFERENCE)
    for window in range(20):
        one.step(window, seen(de=labelled(24, 76)))
        sharded.step(window, seen(de=labelled(20, 30)) + seen(de=labelled(4, 46)))
    assert one.to_json() == sharded.to_json()


def test_hours_without_a_language_are_no_evidence() -> None:
    watch = Watch(REFERENCE)
    watch.step(0, seen(de=labelled(40, 60)))
    level = watch.levels()["de"]["label"]
    for window in range(1, 500):
        watch.step(window, seen())
    assert watch.levels()["de"]["label"] == level > watch.levels()["sw"]["label"]


def test_languages_without_a_reference_are_not_accused_of_a_change_within() -> None:
    watch = Watch(REFERENCE)
    assert not any(watch.step(window, seen(th=labelled(100, 0))) for window in range(30))


def test_false_alarms_keep_the_budget_at_the_very_edge_of_the_band() -> None:
    """Eighty fleets whose spam is as frequent as may just not be told from the reference."""
    exact = replace(
        REFERENCE,
        languages={"de": replace(REFERENCE.languages["de"], sketch=labelled(10**8, 10**9))},
    )
    edge = 1.0 / 11.0 + 0.01
    budget, rng, steps = Budget(alarms_a_month=60.0), np.random.default_rng(5), 60
    alarms = 0
    for _ in range(80):
        watch = Watch(exact, budget)
        for window, hits in enumerate(rng.binomial(100, edge, steps).tolist()):
            alarms += len(watch.step(window, seen(de=labelled(hits, 100 - hits))))
    allowed = 80 * steps / (24 * 30) * budget.alarms_a_month
    assert 0.0 < alarms < allowed


def test_the_mix_is_looked_at_by_the_day() -> None:
    """Languages that sleep at different hours: no hour has the day's mix, every day has."""
    watch = Watch(reference(mix={"de": 500, "sw": 500}))

    def hour(window: int, **more: Sketch) -> Signals:
        awake = "de" if window % 24 < 12 else "sw"
        return seen(**{awake: labelled(20, 80)}, **more)

    assert not any(watch.step(window, hour(window)) for window in range(24 * 10))
    alarms = []
    for window in range(24 * 10, 24 * 11 + 1):
        alarms += watch.step(window, hour(window, th=labelled(10, 10)))
    assert {(alarm.kind, alarm.language, alarm.finding.rising) for alarm in alarms} == {
        ("mix", "*", True)
    }
    assert [(alarm.since, alarm.window) for alarm in alarms] == [(240, 264)]


POOLED = replace(
    REFERENCE,
    languages=REFERENCE.languages | {"und": REFERENCE.languages["de"]},
    mix={"de": 2400, "sw": 2400, "und": 2400},
)


def undetermined(window: int, *, spam: float = 0.2) -> Signals:
    """Of two languages that nobody can tell: one has all of the spam, and sleeps by day."""
    rows = labelled(round(200 * spam), 60) if window % 24 < 12 else labelled(0, 100)
    return seen(de=labelled(20, 80), sw=labelled(20, 80), und=rows)


def test_what_is_several_languages_is_looked_at_by_the_day_and_called_mix() -> None:
    watch = Watch(POOLED)
    assert not any(watch.step(window, undetermined(window)) for window in range(24 * 10))
    assert watch.levels()["und"]["label"] < 0.5
    alarms = []
    for window in range(24 * 10, 24 * 11 + 1):
        alarms += watch.step(window, undetermined(window, spam=0.8))
    (label,) = [alarm for alarm in alarms if alarm.finding.signal == "label"]
    assert (label.kind, label.language, label.since, label.window) == ("mix", "und", 240, 264)


@pytest.mark.parametrize("stop", [5, 23, 24, 40])
def test_a_restart_within_a_day_keeps_the_day(stop: int) -> None:
    whole, halved = Watch(POOLED), Watch(POOLED)
    for window in range(50):
        expected = whole.step(window, undetermined(window, spam=0.8))
        assert halved.step(window, undetermined(window, spam=0.8)) == expected
        if window == stop:
            halved = Watch.from_json(json.loads(json.dumps(halved.to_json())), POOLED)
    assert halved.to_json() == whole.to_json()


def test_a_day_on_other_bins_is_refused() -> None:
    state = Watch(POOLED).to_json()
    state["day_pooled"] = {"und": asdict(empty_sketch(5))}
    with pytest.raises(DataError, match="und was counted on other bins"):
        Watch.from_json(state, POOLED)


def test_levels_say_how_far_it_is_to_an_alarm() -> None:
    watch = Watch(reference(mix={"de": 500, "sw": 500}))
    fresh = watch.levels()
    assert fresh == {"de": {"label": 0.0}, "sw": {"label": 0.0}, "language": {"language": 0.0}}
    for window, rows in windows(4, 2, spam=0.3):
        assert watch.step(window, rows) == []
    assert 0.2 < watch.levels()["de"]["label"] < 1.0


def test_a_smaller_budget_waits_longer() -> None:
    def until(alarms_a_month: float, streams: int | None = None) -> int:
        watch = Watch(REFERENCE, Budget(alarms_a_month, streams))
        rows = windows(6, 200, spam=0.3)
        return next(window for window, signals in rows if watch.step(window, signals))

    assert until(1.0) < until(0.001)
    assert until(1.0) < until(1.0, streams=3000)


def test_signals_of_another_task_are_refused() -> None:
    with pytest.raises(DataError, match="do not fit"):
        Watch(REFERENCE).step(0, Signals("3", "tag", LABELS))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("reference", "0" * 64),
        ("languages", {}),
        ("window", "3"),
        ("mix", {"grown": [1.0], "since": [0]}),
    ],
)
def test_a_state_of_something_else_is_refused(key: str, value: object) -> None:
    with pytest.raises(DataError, match="drift state"):
        Watch.from_json(Watch(REFERENCE).to_json() | {key: value}, REFERENCE)


def test_evidence_that_is_no_number_is_refused() -> None:
    plain = Watch(REFERENCE).to_json()
    plain["languages"]["de"]["grown"][0] = float("nan")
    with pytest.raises(DataError, match="drift state"):
        Watch.from_json(plain, REFERENCE)


@given(st.lists(st.integers(1, 99), max_size=6), st.floats(0.1, 0.5))
@settings(max_examples=20, deadline=None)
def test_looks_at_a_window_change_nothing_but_when_it_alarms(cuts: list[int], spam: float) -> None:
    looked, unseen = Watch(REFERENCE), Watch(REFERENCE)
    for window, rows in windows(5, 8, spam=spam):
        heard = []
        for cut in sorted(cuts):
            part = [count * cut // 100 for count in rows.languages["de"].bins["label"]]
            heard += looked.look(window, seen(de=labelled(part[0], part[1])))
        if window == 4:
            looked = Watch.from_json(json.loads(json.dumps(looked.to_json())), REFERENCE)
        heard += looked.step(window, rows)
        late = unseen.step(window, rows)
        # Each signal once a window; and none is missed that the whole window shows.
        assert len(heard) == len({alarm.finding.signal for alarm in heard})
        assert {alarm.finding.signal for alarm in late} <= {alarm.finding.signal for alarm in heard}
        if len(heard) > len(late):
            # What alarmed only for a while starts anew, too.
            return
        assert looked.levels() == unseen.levels()


def test_looks_together_alarm_as_rarely_as_their_windows() -> None:
    """Of streams at the end of their band, looked at all the time, at most n / c alarm."""
    a_month, alarms, watches, hours = 100.0, 0, 40, 12
    budget = Budget(alarms_a_month=a_month, streams=1)
    for seed in range(watches):
        rng, watch = np.random.default_rng([7, seed]), Watch(REFERENCE, budget)
        for window in range(hours):
            whole = labelled(0, 0)
            for _ in range(10):
                hits = int(rng.binomial(20, 0.214))
                whole = whole + labelled(hits, 20 - hits)
                alarms += len(watch.look(window, seen(de=whole)))
            alarms += len(watch.step(window, seen(de=whole)))
    assert alarms <= watches * hours * a_month / (24 * 30)


def test_a_window_that_was_taken_in_is_not_looked_at_again() -> None:
    watch = Watch(REFERENCE)
    much = seen(de=labelled(900, 100))
    assert watch.look(3, much)
    assert not watch.look(3, much)
    assert not watch.step(3, much)
    assert not watch.look(3, much)
    assert watch.look(4, much)
    with pytest.raises(DataError, match="do not fit"):
        watch.look(5, Signals("3", "classify", ("ham",)))
