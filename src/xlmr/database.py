"""Databases that others of us may write to as well: SQLite and PostgreSQL, set up alike."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlmr.errors import MissingExtraError, SettingsError, XlmrError

try:
    import sqlalchemy as sql
    from sqlalchemy.engine import URL, Connection, Engine, make_url
    from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
except ImportError:
    raise MissingExtraError("sqlalchemy", extra="registry") from None

_WAIT_S = 30
# A server that vanished without a word is noticed after some ten seconds, not after many minutes.
_POSTGRES = {
    "connect_timeout": 5,
    "options": f"-c lock_timeout={_WAIT_S}s",
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


def parse_url(url: str) -> URL:
    """The URL of a database; a plain path is a SQLite file, whose directory is made.

    Raises:
        SettingsError: it is none.
        OSError: the directory cannot be made.
    """
    if "://" not in url:
        path = Path(url).expanduser().absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        return URL.create("sqlite", database=str(path))
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise SettingsError("the URL is none of a database") from None
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def make_engine(url: URL) -> Engine:
    """What speaks to a database; on SQLite, a transaction with the option `writing` begins alone.

    Raises:
        SettingsError: no database that is known.
        MissingExtraError: its driver is not installed.
    """
    sqlite = url.get_backend_name() == "sqlite"
    arguments: dict[str, Any] = {"timeout": _WAIT_S} if sqlite else _POSTGRES
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise SettingsError(
            f"{url.drivername}: not a database we know",
            hint="a path, sqlite:///PATH or postgresql://USER@HOST/DATABASE",
        )
    try:
        # What is written never stands in an exception's words.
        engine = sql.create_engine(
            url, connect_args=arguments, pool_pre_ping=not sqlite, hide_parameters=True
        )
    except NoSuchModuleError:
        raise SettingsError(f"{url.drivername}: no such driver") from None
    except ImportError:
        raise MissingExtraError("psycopg", extra="postgres") from None
    if sqlite:
        sql.event.listen(engine, "connect", _prepare_sqlite)
        sql.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, record: Any) -> None:
    # The driver would begin transactions on its own, and too late to hold what was read.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("writing")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def create_tables(
    connection: Connection, metadata: sql.MetaData, schema: sql.Table, version: int, *, what: str
) -> None:
    """Makes what is missing of a store's tables.

    Args:
        metadata: of all of them.
        schema: the one whose `version` says which program made them.
        version: of this program.
        what: they belong to.

    Raises:
        SettingsError: a newer program made them.
    """
    if connection.dialect.name == "postgresql":
        # Two who create at once do so one after the other; any number will do.
        connection.execute(sql.text("SELECT pg_advisory_xact_lock(884117)"))
    metadata.create_all(connection)
    found = connection.execute(sql.select(schema.c.version)).scalar()
    if found is None:
        connection.execute(sql.insert(schema).values(version=version))
    elif found > version:
        raise SettingsError(
            f"the {what} has tables of version {found}; this program knows {version}",
            hint="use a newer xlmr",
        )


class Transactions:
    """Reads and writes on one database, whose faults become one error.

    Args:
        url: of the database; a plain path is a SQLite file.
        unavailable: the error that says it is away, busy for too long, or full.
        conflict: the one that says somebody else wrote the same; `unavailable` where None.

    Raises:
        SettingsError: no URL of a database that is known.
        MissingExtraError: its driver is not installed.
    """

    def __init__(
        self, url: str, unavailable: type[XlmrError], conflict: type[XlmrError] | None = None
    ) -> None:
        self._unavailable = unavailable
        self._conflict = conflict
        try:
            parsed = parse_url(url)
        except OSError as fault:
            raise unavailable(f"{fault.filename}: {fault.strerror}") from fault
        self.place = parsed.render_as_string(hide_password=True)
        self.engine = make_engine(parsed)
        self._writing = self.engine.execution_options(writing=True)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read by; raises what says that the database is away."""
        with self.translated(), self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction; raises as `reading`."""
        with self.translated(), self._writing.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """What a driver says, said as ours."""
        try:
            yield
        except DBAPIError as fault:
            if self._conflict is not None and isinstance(fault, IntegrityError):
                raise self._conflict(
                    f"{self.place}: somebody else wrote the same at this moment", hint="try again"
                ) from fault
            raise self._unavailable(
                f"{self.place}: {str(fault.orig).strip().partition(chr(10))[0]}",
                hint="the database must be reachable, writable and not held by others for long",
            ) from fault
