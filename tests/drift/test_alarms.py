from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.drift.alarms import Alarm
from xlmr.drift.bets import Finding
from xlmr.errors import DataError

FINDING = Finding("label", "label spam", True, 0.2, 0.4, 15.0)
ALARM = Alarm("within", "de", window=110, since=100, finding=FINDING)


@pytest.mark.parametrize(("since", "last"), [(110, 134), (98, 134), (90, 150)])
def test_it_is_open_for_a_day_or_twice_as_long_as_it_took_to_notice(since: int, last: int) -> None:
    alarm = replace(ALARM, since=since)
    assert alarm.open_at(last)
    assert not alarm.open_at(last + 1)


@given(st.lists(st.integers(1, 24), max_size=30))
def test_what_is_heard_of_every_day_stays_one(pauses: list[int]) -> None:
    alarm = ALARM
    for pause in pauses:
        later = replace(ALARM, window=alarm.last + pause, since=alarm.last)
        assert alarm.continued_by(later)
        alarm = alarm.heard_again(later.window)
    assert alarm.times == 1 + len(pauses)
    assert (alarm.window, alarm.last) == (110, 110 + sum(pauses))


@pytest.mark.parametrize(
    "other",
    [
        replace(ALARM, language="sw"),
        replace(ALARM, kind="mix"),
        replace(ALARM, finding=replace(FINDING, signal="entropy")),
        replace(ALARM, window=200),
    ],
)
def test_another_change_is_another_alarm(other: Alarm) -> None:
    assert not ALARM.continued_by(other)


def test_it_is_read_as_it_was_written_and_so_are_older_ones() -> None:
    again = ALARM.heard_again(120)
    assert Alarm.from_json(json.loads(json.dumps(again.to_json()))) == again
    older = {name: value for name, value in ALARM.to_json().items() if name not in TOLD_LATER}
    assert Alarm.from_json(older) == ALARM
    with pytest.raises(DataError, match="drift alarm"):
        Alarm.from_json({"kind": "without"})


TOLD_LATER = ("times", "again")
