"""What is started, by what the settings say."""

from __future__ import annotations

import sqlite3

import pytest
from tests.serving.observing.conftest import KEY

from xlmr.errors import FeedbackUnavailableError, SettingsError
from xlmr.feedback.record import Record
from xlmr.serving.observing.opening import open_observing
from xlmr.serving.pool import Pool
from xlmr.settings import Settings


@pytest.fixture
def start(metrics, tmp_path):
    """Starts what the settings ask for, with a store unless they name another."""
    pool = Pool(Settings(), metrics)
    usual = {"feedback": str(tmp_path / "feedback.db"), "feedback_key": KEY}
    yield lambda **knobs: open_observing(Settings(**usual | knobs), metrics, pool)
    pool.close()


def record(number):
    return Record(id=f"r-{number}", at=1.0, model="router", version="3", task="classify")


def test_nothing_is_started_where_no_store_is_named(start):
    observing = start(feedback="")
    assert (observing.observer, observing.desk, observing.disagreeing) == (None, None, None)
    observing.close()


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"feedback_key": ""}, "XLMR_FEEDBACK_KEY"),
        ({"feedback": "mysql://h/d"}, "not a database we know"),
        ({"feedback_policy": "/none/policy.toml"}, "No such file"),
    ],
)
def test_what_cannot_be_is_said_at_once(start, knobs, words):
    with pytest.raises(SettingsError, match=words):
        start(**knobs)


def test_a_store_that_is_away_is_found_when_it_comes_back(start, tmp_path, metrics, caplog):
    """It costs the records until then, not the server its start."""
    place = tmp_path / "later" / "feedback.db"
    (tmp_path / "later").write_text("no directory")
    observing = start(feedback=str(place))
    assert "not kept" in caplog.text
    observing.writer.put(record(0))
    observing.writer.flush(20)
    assert metrics.value("xlmr_feedback_dropped_records_total", reason="store") == 1
    with pytest.raises(FeedbackUnavailableError):
        observing.store()
    (tmp_path / "later").unlink()
    observing.writer.put(record(1))
    observing.close(20)
    assert metrics.value("xlmr_feedback_records_total") == 1
    with sqlite3.connect(place) as connection:
        assert connection.execute("SELECT id FROM xlmr_records").fetchall() == [("r-1",)]
    connection.close()


def test_what_waits_at_the_end_is_written(start, metrics):
    observing = start()
    for number in range(50):
        observing.writer.put(record(number))
    observing.close(20)
    observing.close()
    assert metrics.value("xlmr_feedback_records_total") == 50
    assert metrics.value("xlmr_feedback_queue_records") == 0


def test_other_answers_of_the_shadow_are_kept(start, tmp_path):
    observing = start()
    observing.disagreeing("r-0", "4", "refund")
    observing.close(20)
    with sqlite3.connect(tmp_path / "feedback.db") as connection:
        asked = "SELECT prediction, version, label FROM xlmr_disagreements"
        assert connection.execute(asked).fetchall() == [("r-0", "4", "refund")]
    connection.close()


def test_a_store_that_is_away_costs_disagreements_and_no_more(start, tmp_path, caplog):
    (tmp_path / "later").write_text("no directory")
    observing = start(feedback=str(tmp_path / "later" / "feedback.db"))
    observing.disagreeing("r-0", "4", "refund")
    observing.close(20)
    assert "1 disagreements were not kept" in caplog.text
