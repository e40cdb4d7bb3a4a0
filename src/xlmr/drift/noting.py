"""Alarms in the drift store's table: one row each, however long its change goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from xlmr.drift.alarms import Alarm
from xlmr.drift.tables import ALARMS
from xlmr.errors import MissingExtraError

try:
    import sqlalchemy as sql
    from sqlalchemy.engine import Connection
except ImportError:
    raise MissingExtraError("sqlalchemy", extra="feedback") from None


def note(connection: Connection, whose: Mapping[str, str], alarms: Sequence[Alarm]) -> None:
    """Writes down those that are new, and of the others that their change goes on.

    Args:
        connection: of a transaction that nobody else has for this watch.
        whose: `model`, `version`, `task` and `reference`.
        alarms: of one window.
    """
    if not alarms:
        return
    known = [(row.number, alarm) for row, alarm in noted(connection, whose)]
    for alarm in alarms:
        going_on = [each for each in known if each[1].continued_by(alarm)]
        if going_on:
            number, first = going_on[-1]
            again = json.dumps(first.heard_again(alarm.window).to_json())
            connection.execute(
                sql.update(ALARMS).where(ALARMS.c.number == number).values(alarm=again)
            )
        else:
            said = json.dumps(alarm.to_json())
            line = sql.insert(ALARMS).values(**whose, hour=alarm.window, alarm=said)
            connection.execute(line)


def noted(connection: Connection, whose: Mapping[str, str]) -> list[tuple[Any, Alarm]]:
    """All alarms in order, each after its row.

    Args:
        connection: of any transaction.
        whose: values of columns that they must have; of all where there are none.
    """
    asked = sql.select(ALARMS).where(*[ALARMS.c[name] == value for name, value in whose.items()])
    rows = connection.execute(asked.order_by(ALARMS.c.hour, ALARMS.c.number))
    return [(row, Alarm.from_json(json.loads(row.alarm))) for row in rows]
