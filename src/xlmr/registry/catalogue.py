"""Versions, aliases and the journal, in SQL: SQLite by default, PostgreSQL for several writers.

Every change is one transaction that holds the journal's head, so changes happen one after the
other and each leaves its line; what is read inside is what is true when it commits.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from xlmr.errors import (
    JournalError,
    MissingExtraError,
    RegistryConflictError,
    RegistryError,
    RegistryUnavailableError,
)
from xlmr.registry.journal import MOVES, Entry, Head, Line, head_of, next_entry

try:
    import sqlalchemy as sql
    from sqlalchemy.engine import Connection
except ImportError:
    raise MissingExtraError("sqlalchemy", extra="registry") from None

from xlmr.database import Transactions
from xlmr.registry.tables import (
    ALIASES,
    BOARD,
    COUNTS,
    HEAD,
    JOURNAL,
    METADATA,
    MINUTES,
    VERSIONS,
    Alias,
    Board,
    Counted,
    Minute,
    Version,
)
from xlmr.registry.whole import Whole

Clock = Callable[[], int]


def microseconds() -> int:
    """The time of day, in microseconds since 1970 UTC."""
    return time.time_ns() // 1000


class Catalogue:
    """A catalogue by SQLAlchemy URL; a plain path is a SQLite file.

    Raises:
        SettingsError: no URL of a database that is known.
        MissingExtraError: its driver is not installed.
        RegistryUnavailableError: it cannot be reached.
    """

    def __init__(
        self, url: str, *, clock: Clock = microseconds, step: Callable[[str], None] | None = None
    ) -> None:
        self._database = Transactions(url, RegistryUnavailableError, RegistryConflictError)
        self.place = self._database.place
        self._clock = clock
        self._step = step or (lambda name: None)
        with self.writing() as connection:
            _create_tables(connection)

    def close(self) -> None:
        """Closes its connections."""
        self._database.engine.dispose()

    @contextlib.contextmanager
    def change(self) -> Iterator[Change]:
        """One transaction, alone: all of it happens, with its lines in the journal, or nothing.

        Raises:
            RegistryUnavailableError: the database is away, or others hold it for too long.
            RegistryConflictError: see `Change`.
        """
        with self.writing() as connection:
            head = _head(connection.execute(sql.select(HEAD).with_for_update()))
            change = Change(connection, head, self._clock)
            self._step("changing")
            yield change
            change.finish()
            self._step("before commit")
        self._step("committed")

    def version(self, name: str, version: int) -> Version | None:
        """One version; None where there is none, and never was."""
        with self.reading() as connection:
            return _version(connection, name, version)

    def versions(self, name: str | None = None) -> list[Version]:
        """All versions, or those of a name, removed ones too; by name and number."""
        with self.reading() as connection:
            return _rows(connection, VERSIONS, Version, name=name)

    def aliases(self, name: str | None = None) -> list[Alias]:
        """All aliases, or those of a name."""
        with self.reading() as connection:
            return _rows(connection, ALIASES, Alias, name=name)

    def entries(self, *, name: str | None = None, alias: str | None = None) -> list[Entry]:
        """The journal, or what of it concerns a name or an alias; by number."""
        with self.reading() as connection:
            return _rows(connection, JOURNAL, Entry, name=name, alias=alias)

    def whole(self) -> Whole:
        """Everything, as it was at one moment."""
        reading = self._database.engine
        if reading.dialect.name != "sqlite":
            reading = reading.execution_options(isolation_level="REPEATABLE READ")
        with self._database.translated(), reading.begin() as connection:
            rows = {name: tuple(_rows(connection, *kept)) for name, kept in _WHOLE.items()}
            return Whole(head=_head(connection.execute(sql.select(HEAD))), **rows)

    def version_at(self, name: str, alias: str, at_us: int) -> int:
        """Which version an alias named at a moment; 0 for none. One query on the journal."""
        asked = (
            sql.select(JOURNAL.c.version)
            .where(JOURNAL.c.name == name, JOURNAL.c.alias == alias, JOURNAL.c.at_us <= at_us)
            .where(JOURNAL.c.action.in_(MOVES))
            .order_by(JOURNAL.c.seq.desc())
            .limit(1)
        )
        with self.reading() as connection:
            return int(connection.execute(asked).scalar() or 0)

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection to read by.

        Raises:
            RegistryUnavailableError: the database is away.
        """
        return self._database.reading()

    def writing(self) -> AbstractContextManager[Connection]:
        """One transaction beside the journal, which nobody who changes the catalogue waits for.

        Raises:
            RegistryUnavailableError: the database is away, or others hold it for too long.
        """
        return self._database.writing()


class Change:
    """What may be done inside a transaction. Reads here see what will be true at its end.

    Attributes:
        connection: the transaction's.
    """

    def __init__(self, connection: Connection, head: Head, clock: Clock) -> None:
        self.connection = connection
        self._clock = clock
        self._first = self._head = head

    @property
    def head(self) -> Head:
        """The last line of the journal, this change's own included."""
        return self._head

    def note(self, line: Line) -> Entry:
        """Adds a line to the journal."""
        entry = next_entry(line, self._head, now_us=self._clock())
        self.connection.execute(sql.insert(JOURNAL).values(**asdict(entry)))
        self._head = head_of(entry)
        return entry

    def add_version(self, version: Version) -> None:
        """Adds a version.

        Raises:
            RegistryConflictError: it is there already.
        """
        self.connection.execute(sql.insert(VERSIONS).values(**asdict(version)))

    def mark_removed(self, name: str, version: int, at_us: int) -> None:
        """Notes that a version's content is removed; its number is never given again."""
        self.connection.execute(
            sql.update(VERSIONS)
            .where(VERSIONS.c.name == name, VERSIONS.c.version == version)
            .values(removed_us=at_us)
        )

    def set_alias(self, name: str, alias: str, version: int, *, expected: int) -> None:
        """Points an alias at a version, provided that it still points at `expected` (0: nowhere).

        Raises:
            RegistryConflictError: it points elsewhere by now.
        """
        self.touch(name)
        if expected == 0 and self.alias(name, alias) == 0:
            added = sql.insert(ALIASES).values(name=name, alias=alias, version=version)
            self.connection.execute(added)
            return
        moved = self.connection.execute(
            sql.update(ALIASES)
            .where(ALIASES.c.name == name, ALIASES.c.alias == alias, ALIASES.c.version == expected)
            .values(version=version)
        )
        if moved.rowcount != 1:
            now = self.alias(name, alias)
            raise RegistryConflictError(
                f"{name}@{alias} is {f'version {now}' if now else 'nothing'} by now, not "
                f"{f'version {expected}' if expected else 'nothing'}",
                hint="somebody else changed it first; look at it, and decide again",
            )

    def alias(self, name: str, alias: str) -> int:
        """The version an alias points at; 0 for none."""
        asked = sql.select(ALIASES.c.version).where(
            ALIASES.c.name == name, ALIASES.c.alias == alias
        )
        return int(self.connection.execute(asked).scalar() or 0)

    def drop_alias(self, name: str, alias: str) -> None:
        """Removes an alias."""
        self.touch(name)
        self.connection.execute(
            sql.delete(ALIASES).where(ALIASES.c.name == name, ALIASES.c.alias == alias)
        )

    def touch(self, name: str) -> None:
        """Gives what servers follow of a name its next revision."""
        grown = self.connection.execute(
            sql.update(BOARD).where(BOARD.c.name == name).values(revision=BOARD.c.revision + 1)
        )
        if grown.rowcount == 0:
            first = {"name": name, "revision": 1, "rollout": "", "route": "", "digests": "{}"}
            self.connection.execute(sql.insert(BOARD).values(**first))

    def routed(self) -> set[tuple[str, int]]:
        """Versions that a rollout under way or a route names: name and number."""
        rows = self.connection.execute(sql.select(BOARD.c.name, BOARD.c.digests))
        return {(row.name, int(version)) for row in rows for version in json.loads(row.digests)}

    def version(self, name: str, version: int) -> Version | None:
        """One version; None for none."""
        return _version(self.connection, name, version)

    def versions(self, name: str | None = None) -> list[Version]:
        """All versions, or those of a name."""
        return _rows(self.connection, VERSIONS, Version, name=name)

    def aliases(self, name: str | None = None) -> list[Alias]:
        """All aliases, or those of a name."""
        return _rows(self.connection, ALIASES, Alias, name=name)

    def entries(self, *, name: str | None = None, alias: str | None = None) -> list[Entry]:
        """The journal, or what of it concerns a name or an alias."""
        return _rows(self.connection, JOURNAL, Entry, name=name, alias=alias)

    def load(self, whole: Whole) -> None:
        """Fills an empty catalogue with another's rows, the journal's line for line.

        Raises:
            RegistryError: this one is not empty.
        """
        if self._head.seq or self.versions():
            raise RegistryError("the catalogue is not empty", hint="restore into a new one")
        for name, (table, _) in _WHOLE.items():
            if rows := getattr(whole, name):
                self.connection.execute(sql.insert(table), [asdict(row) for row in rows])
        self._head = whole.head

    def finish(self) -> None:
        """Notes the journal's new head."""
        if self._head != self._first:
            self.connection.execute(sql.update(HEAD).values(**asdict(self._head)))


def _head(found: sql.Result[Any]) -> Head:
    rows = found.all()
    if len(rows) != 1:
        raise JournalError(f"the journal's head has {len(rows)} rows, not one: it was edited")
    return Head(rows[0].seq, rows[0].at_us, rows[0].hash)


def _version(connection: Connection, name: str, version: int) -> Version | None:
    asked = sql.select(VERSIONS).where(VERSIONS.c.name == name, VERSIONS.c.version == version)
    row = connection.execute(asked).one_or_none()
    return Version(**row._mapping) if row is not None else None


# The table of each part of a `Whole`, and what a row of it is.
_WHOLE: Mapping[str, tuple[sql.Table, type[Any]]] = {
    "versions": (VERSIONS, Version),
    "aliases": (ALIASES, Alias),
    "entries": (JOURNAL, Entry),
    "boards": (BOARD, Board),
    "counts": (COUNTS, Counted),
    "minutes": (MINUTES, Minute),
}


def _rows(
    connection: Connection, table: sql.Table, kind: type[Any], **equal: str | None
) -> list[Any]:
    """Rows by their key, of which some columns are what is asked for; None asks for nothing."""
    asked = sql.select(table).order_by(*table.primary_key)
    for column, value in equal.items():
        if value is not None:
            asked = asked.where(table.c[column] == value)
    return [kind(**row._mapping) for row in connection.execute(asked)]


def _create_tables(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Two who create at once do so one after the other; any number will do.
        connection.execute(sql.text("SELECT pg_advisory_xact_lock(884116)"))
    METADATA.create_all(connection)
    if connection.execute(sql.select(HEAD)).first() is None:
        connection.execute(sql.insert(HEAD).values(**asdict(Head())))
