"""Records and feedback in SQL: SQLite by default, PostgreSQL for several servers.

What `add` and `add_feedback` have returned from is on disk. Each is one transaction; readers never
wait for writers.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, TypeVar

from xlmr.errors import FeedbackUnavailableError, MissingExtraError, SettingsError, XlmrError
from xlmr.feedback.labels import Feedback, check
from xlmr.feedback.record import Record

try:
    import sqlalchemy as sql
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.engine import Connection
except ImportError:
    raise MissingExtraError("sqlalchemy", extra="feedback") from None

from xlmr.database import Transactions, create_tables
from xlmr.feedback.tables import (
    DISAGREEMENTS,
    ERASURES,
    FEEDBACK,
    METADATA,
    RECORDS,
    SCHEMA,
    SCHEMA_VERSION,
    SELECTED,
    feedback_of,
    record_of,
    row_of,
    storable,
)

FOREVER = 1 << 62
_PAGE = 1000
_TOGETHER = 500


def microseconds() -> int:
    """The time of day, in microseconds since 1970 UTC."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What was erased of a person, and that nothing is left.

    Attributes:
        at_us: when.
        records, feedback: how many of each.
        left: how many were still found afterwards; anything but 0 means: erase once more.
        scrubbed: whether the database has also overwritten where they lay. False where somebody
            who reads kept it from doing so.
    """

    at_us: int
    records: int
    feedback: int
    left: int
    scrubbed: bool


T = TypeVar("T")
R = TypeVar("R", bound="Named")


def batches(rows: Iterable[T]) -> Iterator[list[T]]:
    """As many at a time as are looked up by one question."""
    left = iter(rows)
    while batch := list(itertools.islice(left, _TOGETHER)):
        yield batch


class Named(Protocol):
    """What says which prediction it is about."""

    @property
    def id(self) -> str:
        """Of the prediction."""


class Store:
    """A feedback store by SQLAlchemy URL; a plain path is a SQLite file.

    Raises:
        SettingsError: no URL of a database that is known; a newer program made the tables.
        MissingExtraError: its driver is not installed.
        FeedbackUnavailableError: it cannot be reached.
    """

    def __init__(self, url: str, *, clock: Callable[[], int] = microseconds) -> None:
        self._database = Transactions(url, FeedbackUnavailableError)
        self.place, engine = self._database.place, self._database.engine
        self._sqlite = engine.dialect.name == "sqlite"
        if self._sqlite:
            sql.event.listen(engine, "connect", _overwrite_what_is_deleted)
        # Each database has its own, with what to do about a row that is there.
        self.insert: Any = sqlite.insert if self._sqlite else postgresql.insert
        self._clock = clock
        try:
            with self.writing() as connection:
                create_tables(connection, METADATA, SCHEMA, SCHEMA_VERSION, what="feedback store")
        except XlmrError:
            self.close()
            raise

    def close(self) -> None:
        """Closes its connections."""
        self._database.engine.dispose()

    def add(self, records: Sequence[Record]) -> None:
        """Keeps records, all or none. One that is there already stays as it is.

        Raises:
            FeedbackUnavailableError: the database is away, busy for too long, or full.
        """
        if not records:
            return
        with self.writing() as connection:
            statement = self.insert(RECORDS).on_conflict_do_nothing()
            connection.execute(statement, [row_of(record) for record in records])

    def add_feedback(self, feedback: Sequence[Feedback]) -> int:
        """Keeps feedback, all or none; how many of it was new.

        What was sent before is not kept twice: the same words of the same time, or, where no time
        is given, what somebody's last word was anyway. It may come before its record or long after.

        Raises:
            InputError: a field that cannot be used.
            FeedbackUnavailableError: the database is away, busy for too long, or full.
        """
        with self.writing() as connection:
            return sum(self._add_one(connection, check(each)) for each in feedback)

    def records(self, *, since_us: int = 0, until_us: int = FOREVER) -> Iterator[Record]:
        """Records from a moment on and before another, by time; read page by page."""
        rows = self.pages(sql.select(RECORDS), since_us=since_us, until_us=until_us)
        return map(record_of, rows)

    def pages(self, asked: sql.Select[Any], *, since_us: int, until_us: int) -> Iterator[Any]:
        """Rows of a question about records, of which it names `id` and `at_us`; as `records`."""
        last: tuple[int, str] = (since_us, "")
        page = (
            asked.where(RECORDS.c.at_us < until_us)
            .order_by(RECORDS.c.at_us, RECORDS.c.id)
            .limit(_PAGE)
        )
        while True:
            left = sql.tuple_(RECORDS.c.at_us, RECORDS.c.id) > sql.tuple_(*last)
            with self.reading() as connection:
                rows = connection.execute(page.where(left)).all()
            yield from rows
            if len(rows) < _PAGE:
                return
            last = (rows[-1].at_us, rows[-1].id)

    def feedback(
        self, predictions: Collection[str], *, known_us: int = FOREVER
    ) -> dict[str, list[Feedback]]:
        """What was said of predictions, as far as it had arrived at a moment."""
        asked = sql.select(FEEDBACK).where(FEEDBACK.c.prediction.in_(list(predictions)))
        said: dict[str, list[Feedback]] = defaultdict(list)
        with self.reading() as connection:
            for row in connection.execute(asked.where(FEEDBACK.c.known_us <= known_us)):
                said[row.prediction].append(feedback_of(row))
        return said

    def with_feedback(
        self, records: Iterable[R], *, known_us: int = FOREVER
    ) -> Iterator[tuple[R, Sequence[Feedback]]]:
        """Each record (or what else has its `id`) and what was said of it by a moment."""
        for batch in batches(records):
            said = self.feedback([record.id for record in batch], known_us=known_us)
            for record in batch:
                yield record, said.get(record.id, ())

    def erase(self, person: str) -> Erasure:
        """Erases whatever a person's texts left, what was said of them, and what the person said.

        A server may hold records of the last second that are not written yet: erase again later.

        Args:
            person: `Hasher.person` of the subject's key.

        Raises:
            SettingsError: nobody is named.
            FeedbackUnavailableError: the database is away, busy for too long, or full.
        """
        if not person:
            raise SettingsError("nobody to erase is named")
        now = self._clock()
        theirs = sql.select(RECORDS.c.id).where(RECORDS.c.subject == person)
        about = sql.or_(FEEDBACK.c.prediction.in_(theirs), FEEDBACK.c.who == person)
        with self.writing() as connection:
            feedback = connection.execute(sql.delete(FEEDBACK).where(about)).rowcount
            for table in (SELECTED, DISAGREEMENTS):
                connection.execute(sql.delete(table).where(table.c.prediction.in_(theirs)))
            gone = sql.delete(RECORDS).where(RECORDS.c.subject == person)
            records = connection.execute(gone).rowcount
            line = {"at_us": now, "records": records, "feedback": feedback}
            connection.execute(sql.insert(ERASURES).values(**line))
        scrubbed = self._scrub()
        with self.reading() as connection:
            left = sum(
                connection.execute(sql.select(sql.func.count()).where(where)).scalar_one()
                for where in (RECORDS.c.subject == person, FEEDBACK.c.who == person)
            )
        return Erasure(at_us=now, records=records, feedback=feedback, left=left, scrubbed=scrubbed)

    def erasures(self) -> list[dict[str, int]]:
        """When something was erased, and how much; not whose."""
        with self.reading() as connection:
            rows = connection.execute(sql.select(ERASURES).order_by(ERASURES.c.number))
            return [dict(row._mapping) for row in rows]

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection to read by.

        Raises:
            FeedbackUnavailableError: the database is away.
        """
        return self._database.reading()

    def writing(self) -> AbstractContextManager[Connection]:
        """One transaction.

        Raises:
            FeedbackUnavailableError: the database is away, busy for too long, or full.
        """
        return self._database.writing()

    def _add_one(self, connection: Connection, feedback: Feedback) -> int:
        now = self._clock()
        if feedback.said_us == 0:
            last = (
                sql.select(FEEDBACK.c.label)
                .where(FEEDBACK.c.prediction == feedback.prediction)
                .where(FEEDBACK.c.who == feedback.who, FEEDBACK.c.source == feedback.source)
                .order_by(FEEDBACK.c.said_us.desc(), FEEDBACK.c.known_us.desc())
                .limit(1)
            )
            if connection.execute(last).scalar() == storable(feedback.label):
                return 0
            feedback = replace(feedback, said_us=now)
        said = {k: storable(v) if isinstance(v, str) else v for k, v in asdict(feedback).items()}
        said |= {"key": feedback.key, "known_us": now}
        add = self.insert(FEEDBACK).values(**said).on_conflict_do_nothing()
        return int(connection.execute(add.returning(FEEDBACK.c.key)).scalar() is not None)

    def _scrub(self) -> bool:
        """Has the database forget rows that were deleted, also in its files."""
        with self._database.translated():
            if not self._sqlite:
                plain = self._database.engine.execution_options(isolation_level="AUTOCOMMIT")
                with plain.connect() as connection:
                    connection.exec_driver_sql("VACUUM xlmr_records")
                    connection.exec_driver_sql("VACUUM xlmr_feedback")
                return True
            raw = self._database.engine.raw_connection()
            try:
                busy, _, _ = raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                raw.close()
            return not busy


def _overwrite_what_is_deleted(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA secure_delete=ON")
