"""Counts, watches and alarms of all servers in SQL, beside the feedback store's tables.

Servers add what they counted, hour by hour; whoever comes first weighs an hour that is over. Each
is one transaction that holds the watch's row: a batch counts once however often it is sent, and an
hour is weighed once however many try. What comes after its hour was weighed counts in the next.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from xlmr.database import Transactions, create_tables
from xlmr.drift.alarms import Alarm
from xlmr.drift.detectors import Budget, Watch
from xlmr.drift.reference import Reference
from xlmr.drift.signals import Signals
from xlmr.errors import DataError, FeedbackUnavailableError, MissingExtraError, XlmrError

try:
    import sqlalchemy as sql
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.engine import Connection
except ImportError:
    raise MissingExtraError("sqlalchemy", extra="feedback") from None

from xlmr.drift.noting import note, noted
from xlmr.drift.tables import (
    COUNTS,
    METADATA,
    REFERENCES,
    SCHEMA,
    SCHEMA_VERSION,
    SERVERS,
    WATCHES,
    labels_key,
    packed,
    signals_of,
    unpacked,
)

HOUR_S = 3600
# After an hour has ended: by then every server that works has added what it saw of it.
GRACE_S = 180
# How often an hour is looked at while it runs.
LOOK_S = 900
_DAY_S = 24 * HOUR_S
# Counts of more than a year say nothing of today.
_KEPT_DAYS = 400
# Hours weighed in one transaction: others wait for it.
_TOGETHER = 24
_NOT_YET = -1


class Watched(NamedTuple):
    """What is watched by itself."""

    model: str
    version: str
    task: str


@dataclass(frozen=True, slots=True)
class Counted:
    """What one server saw of a model in one hour.

    Attributes:
        model: its name; version and task stand in the signals.
        hour: since 1970 UTC.
        signals: the counts.
    """

    model: str
    hour: int
    signals: Signals

    @property
    def watched(self) -> Watched:
        """Whose counts they are."""
        return Watched(self.model, self.signals.version, self.signals.task)


@dataclass(frozen=True, slots=True)
class State:
    """How far a watch is.

    Attributes:
        watched: by it.
        reference: the digest of what it holds counts against; empty where there is none.
        hour: the last that was weighed; -1 before the first.
        looked_s: when it last looked, in seconds since 1970 UTC.
        levels: language → signal → how far it is to an alarm, 0 to 1.
    """

    watched: Watched
    reference: str
    hour: int
    looked_s: int
    levels: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Held:
    """How much is counted of something.

    Attributes:
        watched: what.
        rows: answers.
        first: hour of the first.
        last: hour of the last.
    """

    watched: Watched
    rows: int
    first: int
    last: int


class DriftStore:
    """A drift store by SQLAlchemy URL; a plain path is a SQLite file.

    Every method may be called from any thread, and raises FeedbackUnavailableError where the
    database is away, busy for too long, or full.

    Raises:
        SettingsError: no URL of a database that is known; a newer program made the tables.
        MissingExtraError: its driver is not installed.
        FeedbackUnavailableError: it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self._database = Transactions(url, FeedbackUnavailableError)
        dialect = self._database.engine.dialect.name
        self._insert: Any = sqlite.insert if dialect == "sqlite" else postgresql.insert
        try:
            with self._database.writing() as connection:
                create_tables(connection, METADATA, SCHEMA, SCHEMA_VERSION, what="drift store")
        except XlmrError:
            self.close()
            raise

    def close(self) -> None:
        """Closes its connections."""
        self._database.engine.dispose()

    def add(self, server: str, sequence: int, batch: Sequence[Counted], *, now_s: float) -> bool:
        """Adds what a server counted since its last batch; False where it was added before.

        Args:
            server: its name, of its own in all the fleet and after every restart.
            sequence: rising; a batch whose fate is unknown comes again under its own number.
            batch: the counts.
            now_s: the time of day.
        """
        with self._database.writing() as connection:
            if not self._is_new(connection, server, sequence, now_s):
                return False
            # All in one order: two servers never wait for each other.
            for counted in sorted(batch, key=lambda each: (each.watched, each.hour)):
                weighed = self._locked(connection, counted.watched).hour
                self._add(connection, replace(counted, hour=max(counted.hour, weighed + 1)))
        return True

    def step(
        self, model: str, version: str, reference: Reference, *, now_s: float, budget: Budget
    ) -> int:
        """Weighs hours that are over and that nobody has weighed; how many are left.

        Every `LOOK_S` it also looks at the hour that runs.

        Args:
            model: watched.
            version: of it.
            reference: held against; another one than before starts a new watch.
            now_s: the time of day.
            budget: of false alarms; its streams are those of all watches at work.
        """
        watched = Watched(model, version, reference.task)
        over = int(now_s - GRACE_S) // HOUR_S - 1
        state = self.state(watched)
        if (
            state is not None
            and state.reference == reference.digest
            and state.hour >= over
            and now_s - state.looked_s < LOOK_S
        ):
            return 0
        with self._database.writing() as connection:
            content = {"digest": reference.digest, "content": packed(reference.to_json())}
            connection.execute(self._insert(REFERENCES).values(**content).on_conflict_do_nothing())
            left = self._weigh(connection, watched, reference, over, now_s, budget)
            self._forget_old(connection, now_s)
        return left

    def state(self, watched: Watched) -> State | None:
        """How far a watch is; None where nothing was counted yet."""
        return next((each for each in self.states() if each.watched == watched), None)

    def states(self) -> list[State]:
        """Of all watches."""
        columns = [column for column in WATCHES.c if column.name != "state"]
        asked = sql.select(*columns).order_by(*WATCHES.primary_key)
        with self._database.reading() as connection:
            return [
                State(_watched(row), row.reference, row.hour, row.at_s, json.loads(row.levels))
                for row in connection.execute(asked)
            ]

    def held(self) -> list[Held]:
        """What is counted, and how much of it."""
        names, hour = (COUNTS.c.model, COUNTS.c.version, COUNTS.c.task), COUNTS.c.hour
        total = sql.func.sum(COUNTS.c.rows).label("total")
        asked = sql.select(
            *names, total, sql.func.min(hour).label("first"), sql.func.max(hour).label("last")
        )
        with self._database.reading() as connection:
            rows = connection.execute(asked.group_by(*names).order_by(*names)).all()
        return [Held(_watched(row), int(row.total), row.first, row.last) for row in rows]

    def reference(self, digest: str) -> Reference | None:
        """A reference that was held against; None where none has this digest.

        Raises:
            DataError: it is not what was written.
        """
        asked = sql.select(REFERENCES.c.content).where(REFERENCES.c.digest == digest)
        with self._database.reading() as connection:
            content = connection.execute(asked).scalar()
        return None if content is None else Reference.from_json(unpacked(content))

    def hours(
        self, watched: Watched, labels: Sequence[str] | None, since: int, until: int
    ) -> Iterator[tuple[int, Signals]]:
        """Counts hour by hour, from one on and before another.

        Args:
            watched: whose.
            labels: that they must tell apart; None for any.
            since: the first hour.
            until: the hour after the last.

        Raises:
            DataError: they are of another release.
        """
        asked = sql.select(COUNTS.c.hour, COUNTS.c.signals).where(
            *_is(COUNTS, watched), COUNTS.c.hour >= since, COUNTS.c.hour < until
        )
        if labels is not None:
            asked = asked.where(COUNTS.c.labels == labels_key(labels))
        with self._database.reading() as connection:
            rows = connection.execute(asked.order_by(COUNTS.c.hour)).all()
        for row in rows:
            yield row.hour, signals_of(row.signals)

    def alarms(
        self, watched: Watched | None = None, *, since: int = 0, until: int = 1 << 30
    ) -> list[tuple[Watched, Alarm]]:
        """Alarms noticed before an hour, and not for the last time before another; in order."""
        with self._database.reading() as connection:
            found = noted(connection, {} if watched is None else watched._asdict())
        return [
            (_watched(row), alarm)
            for row, alarm in found
            if alarm.window < until and alarm.last >= since
        ]

    def _is_new(self, connection: Connection, server: str, sequence: int, now_s: float) -> bool:
        said = {"sequence": sequence, "at_s": int(now_s)}
        new = self._insert(SERVERS).values(server=server, **said)
        later = SERVERS.c.sequence < new.excluded.sequence
        statement = new.on_conflict_do_update(index_elements=["server"], set_=said, where=later)
        return connection.execute(statement.returning(SERVERS.c.server)).scalar() is not None

    def _locked(self, connection: Connection, watched: Watched) -> Any:
        """A watch's row, nobody else's until the transaction ends."""
        new = {"hour": _NOT_YET, "reference": "", "streams": 0, "at_s": 0}
        new |= {"state": packed({}), "levels": "{}"}
        row = self._insert(WATCHES).values(**watched._asdict(), **new)
        connection.execute(row.on_conflict_do_nothing())
        asked = sql.select(WATCHES).where(*_is(WATCHES, watched)).with_for_update()
        return connection.execute(asked).one()

    def _add(self, connection: Connection, counted: Counted) -> None:
        key = {**counted.watched._asdict(), "hour": counted.hour}
        key["labels"] = labels_key(counted.signals.labels)
        place = [COUNTS.c[name] == value for name, value in key.items()]
        there = connection.execute(sql.select(COUNTS.c.signals).where(*place)).scalar()
        signals = counted.signals
        if there is not None:
            signals = signals_of(there) + signals
        said = {"rows": _rows(signals), "signals": packed(signals.to_json())}
        new = self._insert(COUNTS).values(**key, **said)
        connection.execute(new.on_conflict_do_update(index_elements=COUNTS.primary_key, set_=said))

    def _weigh(
        self,
        connection: Connection,
        watched: Watched,
        reference: Reference,
        over: int,
        now_s: float,
        budget: Budget,
    ) -> int:
        row = self._locked(connection, watched)
        counted = _counted(connection, watched, reference, row.hour, over + 1)
        due = [hour for hour in counted if hour <= over]
        others = sql.select(sql.func.coalesce(sql.func.sum(WATCHES.c.streams), 0)).where(
            WATCHES.c.at_s > now_s - 30 * _DAY_S, sql.not_(sql.and_(*_is(WATCHES, watched)))
        )
        known = row.reference == reference.digest
        streams = row.streams if known else Watch(reference).streams
        fleet = replace(budget, streams=streams + int(connection.execute(others).scalar_one()))
        watch = _restored(row, reference, fleet)
        whose = {**watched._asdict(), "reference": reference.digest}
        for hour in due[:_TOGETHER]:
            alarms = watch.step(hour, _counts(connection, watched, reference, hour))
            note(connection, whose, alarms)
        left = due[_TOGETHER:]
        if counted and not left and counted[-1] > over:
            alarms = watch.look(over + 1, _counts(connection, watched, reference, over + 1))
            note(connection, whose, alarms)
        said = {
            "hour": max(row.hour, left[0] - 1 if left else over),
            "reference": reference.digest,
            "streams": streams,
            "at_s": int(now_s),
            "state": packed(watch.to_json()),
            "levels": json.dumps(watch.levels()),
        }
        connection.execute(sql.update(WATCHES).where(*_is(WATCHES, watched)).values(**said))
        return len(left)

    def _forget_old(self, connection: Connection, now_s: float) -> None:
        oldest_s = int(now_s) - _KEPT_DAYS * _DAY_S
        connection.execute(sql.delete(COUNTS).where(COUNTS.c.hour < oldest_s // HOUR_S))
        # A server that sends an old batch again does so within the hour, or is gone.
        connection.execute(sql.delete(SERVERS).where(SERVERS.c.at_s < oldest_s))


def total(hours: Iterator[tuple[int, Signals]], nothing: Signals) -> Signals:
    """Counts of all hours together; `nothing` where there are none."""
    for _, signals in hours:
        nothing = nothing + signals
    return nothing


def _is(table: sql.Table, watched: Watched) -> list[Any]:
    return [table.c[name] == value for name, value in watched._asdict().items()]


def _watched(row: Any) -> Watched:
    return Watched(row.model, row.version, row.task)


def _rows(signals: Signals) -> int:
    return sum(sketch.rows for sketch in signals.languages.values())


def _comparable(watched: Watched, reference: Reference) -> list[Any]:
    return [*_is(COUNTS, watched), COUNTS.c.labels == labels_key(reference.labels)]


def _counted(
    connection: Connection, watched: Watched, reference: Reference, after: int, last: int
) -> list[int]:
    """Hours with counts."""
    whose = [*_comparable(watched, reference), COUNTS.c.hour > after, COUNTS.c.hour <= last]
    asked = sql.select(COUNTS.c.hour).where(*whose).order_by(COUNTS.c.hour)
    return list(connection.execute(asked).scalars())


def _counts(connection: Connection, watched: Watched, reference: Reference, hour: int) -> Signals:
    whose = [*_comparable(watched, reference), COUNTS.c.hour == hour]
    return signals_of(connection.execute(sql.select(COUNTS.c.signals).where(*whose)).scalar_one())


def _restored(row: Any, reference: Reference, budget: Budget) -> Watch:
    """The watch that was kept; a new one where it was over another reference, or unreadable."""
    if row.reference == reference.digest:
        with contextlib.suppress(DataError):
            return Watch.from_json(unpacked(row.state), reference, budget)
    return Watch(reference, budget)
