"""The catalogue's tables, and a row of each as a value."""

from __future__ import annotations

from dataclasses import dataclass

from xlmr.errors import MissingExtraError

try:
    import sqlalchemy as sql
except ImportError:
    raise MissingExtraError("sqlalchemy", extra="registry") from None

METADATA = sql.MetaData()

VERSIONS = sql.Table(
    "xlmr_versions",
    METADATA,
    sql.Column("name", sql.String(200), primary_key=True),
    sql.Column("version", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("digest", sql.String(64), nullable=False, index=True),
    sql.Column("answers", sql.String(64), nullable=False),
    sql.Column("pushed_us", sql.BigInteger, nullable=False),
    sql.Column("pushed_by", sql.Text, nullable=False),
    sql.Column("removed_us", sql.BigInteger, nullable=False),
)
ALIASES = sql.Table(
    "xlmr_aliases",
    METADATA,
    sql.Column("name", sql.String(200), primary_key=True),
    sql.Column("alias", sql.String(200), primary_key=True),
    sql.Column("version", sql.Integer, nullable=False),
)
JOURNAL = sql.Table(
    "xlmr_journal",
    METADATA,
    sql.Column("seq", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("at_us", sql.BigInteger, nullable=False),
    sql.Column("actor", sql.Text, nullable=False),
    sql.Column("action", sql.String(40), nullable=False),
    sql.Column("name", sql.String(200), nullable=False),
    sql.Column("alias", sql.String(200), nullable=False),
    sql.Column("version", sql.Integer, nullable=False),
    sql.Column("previous", sql.Integer, nullable=False),
    sql.Column("digest", sql.String(64), nullable=False),
    sql.Column("evidence", sql.String(64), nullable=False),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("override", sql.Boolean, nullable=False),
    sql.Column("detail", sql.Text, nullable=False),
    sql.Column("hash", sql.String(64), nullable=False),
    sql.Index("xlmr_journal_alias", "name", "alias", "seq"),
)
# What holds for a name besides its aliases, as JSON; `registry.rollout.board` reads and writes it.
BOARD = sql.Table(
    "xlmr_board",
    METADATA,
    sql.Column("name", sql.String(200), primary_key=True),
    sql.Column("revision", sql.BigInteger, nullable=False),
    sql.Column("rollout", sql.Text, nullable=False),
    sql.Column("route", sql.Text, nullable=False),
    sql.Column("digests", sql.Text, nullable=False),
)
# What each server counted for a rollout, and under which number it said so last.
COUNTS = sql.Table(
    "xlmr_counts",
    METADATA,
    sql.Column("salt", sql.String(100), primary_key=True),
    sql.Column("epoch", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("server", sql.String(200), primary_key=True),
    sql.Column("sequence", sql.BigInteger, nullable=False),
    sql.Column("evidence", sql.Text, nullable=False),
)
MINUTES = sql.Table(
    "xlmr_minutes",
    METADATA,
    sql.Column("salt", sql.String(100), primary_key=True),
    sql.Column("epoch", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("minute", sql.BigInteger, primary_key=True, autoincrement=False),
    sql.Column("server", sql.String(200), primary_key=True),
    sql.Column("units", sql.BigInteger, nullable=False),
    sql.Column("harmed", sql.BigInteger, nullable=False),
)
# One row: the journal's last line. Whoever holds it changes the catalogue; others wait.
HEAD = sql.Table(
    "xlmr_head",
    METADATA,
    sql.Column("seq", sql.Integer, nullable=False),
    sql.Column("at_us", sql.BigInteger, nullable=False),
    sql.Column("hash", sql.String(64), nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version's row.

    Attributes:
        name, version: what it is called by; a number is given once and never again.
        digest: of its tree.
        answers: `Bundle.digest`: what a gate and a server know it by.
        pushed_us, pushed_by: when and by whom; microseconds since 1970 UTC.
        removed_us: when its content was removed; 0 while it is there.
    """

    name: str
    version: int
    digest: str
    answers: str
    pushed_us: int
    pushed_by: str
    removed_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A name for a version that may be given to another one."""

    name: str
    alias: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What holds for a name besides its aliases; texts as `registry.rollout.kept` writes them."""

    name: str
    revision: int
    rollout: str
    route: str
    digests: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a server counted for a stage of a rollout, and the number of its last addition."""

    salt: str
    epoch: int
    server: str
    sequence: int
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """Units, and harmed ones, that a server counted in a minute since 1970."""

    salt: str
    epoch: int
    minute: int
    server: str
    units: int
    harmed: int
