from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sql
from tests.drift.parts import FIRST_HOUR, LABELS, WATCHED, after, hour, reference, signals, sketch

from xlmr.drift.alarms import Alarm
from xlmr.drift.detectors import Budget, Watch
from xlmr.drift.keeping import HOUR_S, LOOK_S, Counted, DriftStore, Watched, total
from xlmr.drift.signals import Signals
from xlmr.drift.tables import COUNTS, SCHEMA, WATCHES
from xlmr.errors import FeedbackUnavailableError, SettingsError

REPOSITORY = Path(__file__).resolve().parents[2]
REFERENCE = reference()


def all_of(store: DriftStore, watched: Watched = WATCHED) -> Signals:
    nothing = Signals(watched.version, watched.task, LABELS)
    return total(store.hours(watched, LABELS, 0, 1 << 30), nothing)


def step(store: DriftStore, number: int, *, budget: Budget | None = None) -> int:
    said = budget or Budget()
    return store.step("router", "3", REFERENCE, now_s=after(number), budget=said)


def expected(hours: int, *, changed: int = 1 << 30, spam: float = 0.3) -> list[Alarm]:
    """What one watch, that sees everything in order, says; what lasts is one alarm."""
    watch, alarms = Watch(REFERENCE), dict[tuple[str, str], Alarm]()
    for number in range(hours):
        counted = hour(number, spam=spam if number >= changed else 0.2)
        for alarm in watch.step(counted.hour, counted.signals):
            key = (alarm.language, alarm.finding.signal)
            first = alarms.get(key)
            alarms[key] = alarm if first is None else first.heard_again(alarm.window)
    return list(alarms.values())


def test_counts_of_servers_add_up_and_come_back(database: str) -> None:
    store = DriftStore(database)
    assert store.add("one", 1, [hour(1), hour(2)], now_s=after(2))
    assert store.add("two", 1, [hour(1)], now_s=after(2))
    store.close()
    again = DriftStore(database)
    assert all_of(again) == hour(1).signals + hour(1).signals + hour(2).signals
    (held,) = again.held()
    assert (held.watched, held.rows) == (WATCHED, 600)
    assert (held.first, held.last) == (FIRST_HOUR + 1, FIRST_HOUR + 2)
    again.close()


def test_a_batch_that_comes_again_counts_once(database: str) -> None:
    store = DriftStore(database)
    assert store.add("one", 7, [hour(1)], now_s=after(1))
    assert not store.add("one", 7, [hour(1)], now_s=after(1))
    assert not store.add("one", 6, [hour(1)], now_s=after(1))
    assert store.add("one", 8, [], now_s=after(1))
    assert all_of(store) == hour(1).signals
    store.close()


def test_counts_with_other_labels_lie_beside_each_other(database: str) -> None:
    store = DriftStore(database)
    other = Counted("router", FIRST_HOUR, Signals("3", "classify", ("ham",)))
    other.signals.languages["de"] = signals(de=sketch(1, 1)).languages["de"]
    store.add("one", 1, [hour(0)], now_s=after(0))
    del other.signals.languages["de"].bins["label"][-1]
    store.add("two", 1, [other], now_s=after(0))
    assert all_of(store) == hour(0).signals
    assert len(list(store.hours(WATCHED, None, 0, 1 << 30))) == 2
    store.close()


def test_hours_are_weighed_once_they_are_over_as_one_watch_would(database: str) -> None:
    store = DriftStore(database)
    for number in range(40):
        changed = 0.3 if number >= 20 else 0.2
        store.add("one", number, [hour(number, spam=changed)], now_s=after(number))
        assert step(store, number) == 0
    found = [alarm for _, alarm in store.alarms()]
    assert found == expected(40, changed=20)
    assert found
    state = store.state(WATCHED)
    assert state is not None
    assert (state.reference, state.hour) == (REFERENCE.digest, FIRST_HOUR + 39)
    assert 0.0 <= state.levels["de"]["label"] <= 1.0
    assert store.reference(REFERENCE.digest) == REFERENCE
    assert store.reference("0" * 64) is None
    store.close()


def test_an_hour_that_is_not_over_is_left_alone(database: str) -> None:
    store = DriftStore(database)
    store.add("one", 1, [hour(3)], now_s=after(3))
    step(store, 2)
    state = store.state(WATCHED)
    assert state is not None
    assert state.hour == FIRST_HOUR + 2
    store.close()


def test_after_a_long_pause_hours_are_caught_up_with_in_parts(database: str) -> None:
    store = DriftStore(database)
    batch = [hour(number, spam=0.3 if number >= 20 else 0.2) for number in range(60)]
    store.add("one", 1, batch, now_s=after(60))
    assert [step(store, 59) for _ in range(4)] == [36, 12, 0, 0]
    assert [alarm for _, alarm in store.alarms()] == expected(60, changed=20)
    store.close()


def test_what_comes_late_counts_in_the_next_hour(database: str) -> None:
    store = DriftStore(database)
    store.add("one", 1, [hour(0)], now_s=after(0))
    step(store, 0)
    store.add("two", 1, [hour(0)], now_s=after(0))
    found = dict(store.hours(WATCHED, LABELS, 0, 1 << 30))
    assert found == {FIRST_HOUR: hour(0).signals, FIRST_HOUR + 1: hour(0).signals}
    store.close()


def test_servers_that_weigh_at_once_weigh_each_hour_once(database: str) -> None:
    stores = [DriftStore(database) for _ in range(3)]

    def serve(name: int, store: DriftStore) -> None:
        for number in range(30):
            spam = 0.3 if number >= 10 else 0.2
            ready.wait()
            if name == number % 3:
                store.add(str(name), number, [hour(number, spam=spam)], now_s=after(number))
            ready.wait()
            step(store, number)

    ready = threading.Barrier(3, timeout=60)
    threads = [threading.Thread(target=serve, args=each) for each in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [alarm for _, alarm in stores[0].alarms()] == expected(30, changed=10)
    for store in stores:
        store.close()


def test_another_reference_begins_anew_and_never_weighs_twice(database: str) -> None:
    store = DriftStore(database)
    store.add("one", 1, [hour(0), hour(1)], now_s=after(1))
    step(store, 1)
    other = reference(mix={"de": 50, "sw": 50})
    store.add("one", 2, [hour(2)], now_s=after(2))
    assert store.step("router", "3", other, now_s=after(2), budget=Budget()) == 0
    with store._database.reading() as connection:
        kept = connection.execute(sql.select(WATCHES)).one()
    assert (kept.reference, kept.hour) == (other.digest, FIRST_HOUR + 2)
    alone = Watch(other)
    alone.step(hour(2).hour, hour(2).signals)
    levels = store.state(WATCHED)
    assert levels is not None
    assert levels.levels == alone.levels()
    store.close()


def test_the_budget_is_shared_by_all_watches_at_work(database: str) -> None:
    store = DriftStore(database)
    store.add("one", 1, [hour(0, spam=0.25)], now_s=after(0))
    step(store, 0)
    alone = store.state(WATCHED)
    others = [{**WATCHED._asdict(), "version": str(n), "streams": 1000} for n in range(10, 13)]
    blank = {"hour": 0, "reference": "", "at_s": int(after(0)), "state": b"", "levels": "{}"}
    with store._database.writing() as connection:
        connection.execute(sql.insert(WATCHES), [other | blank for other in others])
    store.add("one", 2, [Counted("router", FIRST_HOUR + 1, signals())], now_s=after(1))
    step(store, 1)
    shared = store.state(WATCHED)
    assert alone is not None
    assert shared is not None
    assert 0.0 < shared.levels["de"]["label"] < alone.levels["de"]["label"]
    store.close()


def test_counts_of_more_than_a_year_go(database: str) -> None:
    store = DriftStore(database)
    store.add("one", 1, [hour(0)], now_s=after(0))
    year = 24 * 401
    store.add("one", 2, [hour(year)], now_s=after(year))
    step(store, year)
    with store._database.reading() as connection:
        assert connection.execute(sql.select(COUNTS.c.hour)).scalars().all() == [FIRST_HOUR + year]
    store.close()


def test_a_process_that_is_killed_goes_on_from_there_exactly(database: str) -> None:
    command = [sys.executable, "-m", "tests.drift.dying", database]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert child.stdout is not None
    for _ in range(24):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=60)
    store = DriftStore(database)
    state = store.state(WATCHED)
    assert state is not None
    begun = state.hour - FIRST_HOUR
    for number in range(begun, begun + 30):
        store.add("one", number, [hour(number, spam=0.3)], now_s=after(number))
        step(store, number)
    whole = expected(begun + 30, changed=20)
    assert [alarm for _, alarm in store.alarms(WATCHED)] == whole
    store.close()


def test_a_newer_programs_store_is_left_alone(database: str) -> None:
    store = DriftStore(database)
    with store._database.writing() as connection:
        connection.execute(sql.update(SCHEMA).values(version=99))
    store.close()
    with pytest.raises(SettingsError, match=r"version 99.*knows 1"):
        DriftStore(database)


def test_a_store_that_is_away_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FeedbackUnavailableError):
        DriftStore(str(tmp_path / "file" / "drift.db"))
    with pytest.raises(FeedbackUnavailableError, match="must be reachable"):
        DriftStore("postgresql://nobody@127.0.0.1:1/none")


def test_a_change_that_lasts_is_one_alarm_and_open_until_it_is_quiet(database: str) -> None:
    store = DriftStore(database)
    # Half of it is spam for three hours of every day, then all of it is as ever.
    for number in range(120):
        changed = number % 24 < 3 and number < 72
        store.add("one", number, [hour(number, spam=0.5 if changed else 0.2)], now_s=after(number))
        step(store, number)
    ((_, alarm),) = store.alarms()
    assert (alarm.language, alarm.finding.signal) == ("de", "label")
    first, last = alarm.window - FIRST_HOUR, alarm.last - FIRST_HOUR
    assert first < 3
    assert 48 <= last < 72
    assert alarm.times >= 3
    assert alarm.open_at(alarm.last + 24)
    assert not alarm.open_at(FIRST_HOUR + 120)
    assert not store.alarms(since=FIRST_HOUR + 100)
    assert store.alarms(since=alarm.last, until=alarm.last + 1)
    store.add("one", 120, [hour(120, spam=0.9)], now_s=after(120))
    step(store, 120)
    assert len(store.alarms()) == 2
    store.close()


def test_an_hour_that_runs_is_looked_at_every_quarter_and_alarms_once(database: str) -> None:
    store = DriftStore(database)
    store.add("one", 1, [hour(0)], now_s=after(0))
    step(store, 0)
    begun = float((FIRST_HOUR + 1) * HOUR_S + 200)

    def look(now_s: float) -> int:
        store.step("router", "3", REFERENCE, now_s=now_s, budget=Budget())
        return len(store.alarms())

    store.add("one", 2, [hour(1, spam=0.9)], now_s=begun)
    assert look(after(0) + LOOK_S - 1) == 0
    assert look(after(0) + LOOK_S) == 1
    store.add("one", 3, [hour(1, spam=0.9)], now_s=begun + 1200)
    assert look(after(0) + 2 * LOOK_S) == 1
    step(store, 1)
    ((_, alarm),) = store.alarms()
    assert (alarm.window, alarm.times) == (FIRST_HOUR + 1, 1)
    store.close()
