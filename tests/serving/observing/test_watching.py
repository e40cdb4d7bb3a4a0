from __future__ import annotations

import threading

import pytest
from tests.drift.parts import FIRST_HOUR, LABELS, WATCHED, after, hour, reference

from xlmr.drift.detectors import Budget
from xlmr.drift.keeping import HOUR_S, DriftStore, total
from xlmr.drift.label_free import Labelled
from xlmr.drift.signals import Sight, Signals
from xlmr.errors import FeedbackUnavailableError
from xlmr.serving.observing.sights import SightBook
from xlmr.serving.observing.watching import Watching, watch_drift
from xlmr.telemetry.metrics import Metrics

REFERENCE = reference()


class Fleet:
    """A server with a clock that stands, whose store can be away."""

    def __init__(self, place, *, labelled=None):
        self.now = float(FIRST_HOUR * HOUR_S)
        self.away = False
        self.dies_after_adding = False
        self.book = SightBook(lambda model, version: REFERENCE, clock=lambda: self.now)
        self.place = place
        self.labelled = labelled or {}

    def open(self):
        if self.away:
            raise FeedbackUnavailableError("away")
        fleet = self

        class Store(DriftStore):
            def add(self, *said, **more):
                if fleet.away:
                    raise FeedbackUnavailableError("away")
                new = super().add(*said, **more)
                if fleet.dies_after_adding:
                    raise FeedbackUnavailableError("nobody knows whether it was added")
                return new

        return Store(self.place)

    def watching(self):
        return Watching(
            self.book,
            open_store=self.open,
            released=lambda: [("router", "3", REFERENCE)],
            budget=Budget(),
            labelled_of=lambda model, version, since_s: self.labelled,
            clock=lambda: self.now,
            every_s=3600,
        )

    def see(self, rows, label="spam", confidence=0.85):
        for _ in range(rows):
            sight = Sight(7, 20, 0, False, label, confidence, 0.3, False)
            self.book.see("router", "3", "classify", LABELS, "de", sight)

    def rows(self):
        store = DriftStore(self.place)
        hours = store.hours(WATCHED, LABELS, 0, 1 << 30)
        signals = total(hours, Signals("3", "classify", LABELS))
        store.close()
        return {name: sketch.rows for name, sketch in signals.languages.items()}


@pytest.fixture
def fleet(tmp_path):
    return Fleet(str(tmp_path / "drift.db"), labelled={"de": Labelled(200, 150)})


def test_what_was_seen_arrives_and_an_hour_that_is_over_is_weighed(fleet):
    watching = fleet.watching()
    fleet.see(1000)
    watching.turn()
    assert fleet.rows() == {"de": 1000}
    assert watching.behind() == 0.0
    fleet.now = after(0)
    watching.turn()
    metrics = Metrics()
    watch_drift(metrics, watching)
    said = {"model": "router", "version": "3"}
    # So much spam alarms at once, and what alarmed starts anew.
    alarms = metrics.value("xlmr_drift_alarms", **said, language="de", kind="within")
    assert alarms == 1.0
    assert metrics.value("xlmr_drift_level_ratio", **said, language="all", signal="language") == 0.0
    level = metrics.value("xlmr_drift_level_ratio", **said, language="sw", signal="label")
    assert 0.0 <= level < 1.0
    share = {
        source: metrics.value(
            "xlmr_drift_accuracy_ratio", **said, language="de", source=source, end="share"
        )
        for source in ("release", "estimated", "labelled")
    }
    assert share == pytest.approx({"release": 0.85, "estimated": 0.85, "labelled": 0.75}, abs=0.01)
    high = metrics.value(
        "xlmr_drift_accuracy_ratio", **said, language="de", source="labelled", end="high"
    )
    assert 0.75 < high < 0.9
    watching.close()


def test_counts_wait_while_the_store_is_away(fleet, caplog):
    fleet.away = True
    watching = fleet.watching()
    fleet.see(10)
    watching.turn()
    fleet.see(10)
    watching.turn()
    fleet.now += HOUR_S * 5
    assert watching.behind() == 5.0
    assert [record.message for record in caplog.records] == ["drift: away; counts wait in memory"]
    fleet.away = False
    fleet.see(10)
    watching.turn()
    assert fleet.rows() == {"de": 30}
    fleet.now += 600
    watching.turn()
    assert watching.behind() == 0.0
    watching.close()


def test_a_batch_whose_fate_is_unknown_counts_once(fleet):
    watching = fleet.watching()
    watching.turn()
    fleet.dies_after_adding = True
    fleet.see(10)
    watching.turn()
    fleet.see(5)
    watching.turn()
    fleet.dies_after_adding = False
    watching.turn()
    assert fleet.rows() == {"de": 15}
    watching.close()


def test_a_turn_ends_while_answers_go_on(fleet):
    watching, added = fleet.watching(), []

    class Busy(DriftStore):
        def add(self, *said, **more):
            added.append(super().add(*said, **more))
            fleet.see(1)

    watching.turn()
    watching._store.close()
    watching._store = Busy(fleet.place)
    fleet.see(5)
    watching.turn()
    assert added == [True]
    assert fleet.rows() == {"de": 5}
    watching.turn()
    assert fleet.rows() == {"de": 6}
    watching.close(60)


def test_what_was_seen_last_arrives_when_the_server_stops(fleet):
    watching = fleet.watching()
    fleet.see(3)
    watching.close(60)
    watching.close()
    assert fleet.rows() == {"de": 3}


def test_two_servers_weigh_an_hour_once(tmp_path):
    fleets = [Fleet(str(tmp_path / "drift.db")) for _ in range(2)]
    servers = [fleet.watching() for fleet in fleets]
    for fleet in fleets:
        fleet.see(500)
    for server in servers:
        server.turn()
    for fleet in fleets:
        fleet.now = after(0)
    threads = [threading.Thread(target=server.turn) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = DriftStore(str(tmp_path / "drift.db"))
    alarms = [alarm for _, alarm in store.alarms()]
    assert {alarm.language for alarm in alarms} == {"de"}
    assert len({alarm.finding.signal for alarm in alarms}) == len(alarms)
    store.close()
    for server in servers:
        server.close()


def test_what_others_added_counts_too(fleet):
    store = DriftStore(fleet.place)
    store.add("another", 1, [hour(0)], now_s=after(0))
    store.close()
    watching = fleet.watching()
    fleet.now = after(0)
    watching.turn()
    assert ("router", "3", "sw", "estimated", "share") in watching.figures.accuracy
    watching.close()
