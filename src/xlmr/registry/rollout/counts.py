"""Counts of a rollout, added up over servers: the port, and the catalogue's database behind it.

Servers add what they have counted since the last time, under a number that grows by one. Whoever
does not know whether an addition arrived sends the same again under the same number: it counts
once. So a server has one addition under way at a time, and leaves it as it is until it arrived.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Protocol

from xlmr.errors import MissingExtraError, RegistryConflictError
from xlmr.registry.rollout.burn import MINUTE, WINDOWS, Window
from xlmr.registry.rollout.evidence import Evidence

try:
    import sqlalchemy as sql
except ImportError:
    raise MissingExtraError("sqlalchemy", extra="registry") from None

from xlmr.registry.tables import COUNTS, MINUTES

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from xlmr.registry.catalogue import Catalogue

Kind = Literal["database", "redis"]
# Minutes that a window may still ask for; older ones are let go of.
KEPT_MINUTES = max(WINDOWS) // MINUTE


class CountStore(Protocol):
    """Where the counts of rollouts are kept, by the rollout's salt and the stage's epoch.

    Attributes:
        kind: `database` or `redis`; a rollout's counts are all in one of them.

    Every method raises RegistryUnavailableError where it cannot be reached.
    """

    kind: Kind

    def add(
        self,
        salt: str,
        epoch: int,
        *,
        server: str,
        sequence: int,
        evidence: Evidence,
        minutes: Mapping[int, Window],
    ) -> bool:
        """Adds what a server counted; False if it has this addition already.

        Args:
            salt, epoch: what it was counted under.
            server: which one: a name of this process and no other, before or after.
            sequence: of the addition, under this salt and epoch, from 1 on.
            evidence: counted since the addition before.
            minutes: of it, units and harmed units by the minute since 1970 they fell into.
        """

    def read(self, salt: str, epoch: int) -> Evidence:
        """What all servers counted."""

    def windows(self, salt: str, epoch: int, now: float) -> Mapping[int, Window]:
        """Units and harmed units in each of `burn.WINDOWS`: whole minutes, the present one too.

        Args:
            now: seconds since 1970.
        """

    def forget(self, salt: str, *, before: int) -> None:
        """Removes what was counted under the epochs of a rollout before this one."""


def windows_of(minutes: Mapping[int, Window], now: float) -> dict[int, Window]:
    """Sums of minutes, by the seconds they reach back.

    Args:
        minutes: by minute since 1970. Those that lie ahead, by a clock that is fast, count as now.
        now: seconds since 1970.
    """
    present = int(now // MINUTE)
    found = {}
    for seconds in WINDOWS:
        within = [w for minute, w in minutes.items() if minute > present - seconds // MINUTE]
        found[seconds] = Window(sum(w.units for w in within), sum(w.harmed for w in within))
    return found


class SqlCounts:
    """Counts in the catalogue's database: one row for each server, so that none waits for another.

    Args:
        catalogue: whose database it is.
    """

    kind: Kind = "database"

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def add(
        self,
        salt: str,
        epoch: int,
        *,
        server: str,
        sequence: int,
        evidence: Evidence,
        minutes: Mapping[int, Window],
    ) -> bool:
        """As `CountStore.add`."""
        row: dict[str, str | int] = {"salt": salt, "epoch": epoch, "server": server}
        try:
            with self._catalogue.writing() as connection:
                return _add(connection, row, sequence, evidence, minutes)
        except RegistryConflictError:
            # Another of the same name was first to write the first row; now there is one.
            with self._catalogue.writing() as connection:
                return _add(connection, row, sequence, evidence, minutes)

    def read(self, salt: str, epoch: int) -> Evidence:
        """As `CountStore.read`."""
        asked = sql.select(COUNTS.c.evidence).where(COUNTS.c.salt == salt, COUNTS.c.epoch == epoch)
        with self._catalogue.reading() as connection:
            texts = connection.execute(asked).scalars().all()
        return sum((Evidence.from_json(json.loads(text)) for text in texts), Evidence())

    def windows(self, salt: str, epoch: int, now: float) -> Mapping[int, Window]:
        """As `CountStore.windows`."""
        least = int(now // MINUTE) - KEPT_MINUTES
        units, harmed = sql.func.sum(MINUTES.c.units), sql.func.sum(MINUTES.c.harmed)
        asked = (
            sql.select(MINUTES.c.minute, units.label("units"), harmed.label("harmed"))
            .where(MINUTES.c.salt == salt, MINUTES.c.epoch == epoch, MINUTES.c.minute > least)
            .group_by(MINUTES.c.minute)
        )
        with self._catalogue.reading() as connection:
            rows = connection.execute(asked).all()
        # PostgreSQL sums whole numbers into decimals.
        minutes = {row.minute: Window(int(row.units), int(row.harmed)) for row in rows}
        return windows_of(minutes, now)

    def forget(self, salt: str, *, before: int) -> None:
        """As `CountStore.forget`."""
        with self._catalogue.writing() as connection:
            for table in (COUNTS, MINUTES):
                old = (table.c.salt == salt) & (table.c.epoch < before)
                connection.execute(sql.delete(table).where(old))


def _add(
    connection: Connection,
    row: Mapping[str, str | int],
    sequence: int,
    evidence: Evidence,
    minutes: Mapping[int, Window],
) -> bool:
    mine = sql.and_(*(COUNTS.c[column] == value for column, value in row.items()))
    held = connection.execute(sql.select(COUNTS).where(mine).with_for_update()).one_or_none()
    if held is None:
        first = {"sequence": sequence, "evidence": json.dumps(evidence.to_json())}
        connection.execute(sql.insert(COUNTS).values(**row, **first))
    elif held.sequence >= sequence:
        return False
    else:
        whole = json.dumps((Evidence.from_json(json.loads(held.evidence)) + evidence).to_json())
        more = sql.update(COUNTS).where(mine).values(sequence=sequence, evidence=whole)
        connection.execute(more)
    for minute, window in minutes.items():
        _add_minute(connection, row, minute, window)
    return True


def _add_minute(
    connection: Connection, row: Mapping[str, str | int], minute: int, window: Window
) -> None:
    mine = sql.and_(*(MINUTES.c[column] == value for column, value in row.items()))
    more = {"units": MINUTES.c.units + window.units, "harmed": MINUTES.c.harmed + window.harmed}
    this = sql.update(MINUTES).where(mine, MINUTES.c.minute == minute).values(**more)
    if connection.execute(this).rowcount:
        return
    first = {"minute": minute, "units": window.units, "harmed": window.harmed}
    connection.execute(sql.insert(MINUTES).values(**row, **first))
    connection.execute(sql.delete(MINUTES).where(mine, MINUTES.c.minute <= minute - KEPT_MINUTES))
