"""What a store holds, and what of it has outlived its time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xlmr.errors import MissingExtraError
from xlmr.feedback.policy import Policy
from xlmr.feedback.store import Store

try:
    import sqlalchemy as sql
except ImportError:
    raise MissingExtraError("sqlalchemy", extra="feedback") from None

from xlmr.feedback.tables import DISAGREEMENTS, FEEDBACK, RECORDS, SELECTED

_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a store holds of a model's version in a language.

    Attributes:
        records: predictions; `texts` of them with their text.
        answered: of how many somebody has said something; `corrected`: another label than the
            predicted one, by whoever spoke (the export settles who is right).
    """

    model: str
    version: str
    language: str
    records: int
    texts: int
    answered: int
    corrected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """How many records and pieces of feedback were removed, and texts from records that stay."""

    records: int
    feedback: int
    texts: int


def held(store: Store) -> Iterator[Held]:
    """By model, version and language."""
    said = (
        sql.select(FEEDBACK.c.prediction)
        .where(FEEDBACK.c.prediction == RECORDS.c.id)
        .correlate(RECORDS)
    )
    other = said.where(FEEDBACK.c.label != RECORDS.c.label)
    by = (RECORDS.c.model, RECORDS.c.version, RECORDS.c.language)
    # Each record's marks first, then their sums: no database sums over a subquery's rows else.
    marks = sql.select(
        *by,
        sql.case((RECORDS.c.text != "", 1), else_=0).label("text"),
        sql.case((said.exists(), 1), else_=0).label("said"),
        sql.case((other.exists(), 1), else_=0).label("other"),
    ).subquery()
    names = (marks.c.model, marks.c.version, marks.c.language)
    total = sql.func.sum
    asked = (
        sql.select(
            *names, sql.func.count(), total(marks.c.text), total(marks.c.said), total(marks.c.other)
        )
        .group_by(*names)
        .order_by(*names)
    )
    with store.reading() as connection:
        rows = connection.execute(asked).all()
    for model, version, language, records, texts, answered, corrected in rows:
        yield Held(
            model=model,
            version=version,
            language=language,
            records=records,
            texts=int(texts),
            answered=int(answered),
            corrected=int(corrected),
        )


def expire(store: Store, policy: Policy, now_us: int) -> Expired:
    """Removes what has outlived its class. A class the policy does not name is kept as new ones.

    What was said of a record goes with it; where that never came, after the longest class.
    """
    default = policy.classes[policy.retention]
    with store.writing() as connection:
        present = connection.execute(sql.select(RECORDS.c.retention).distinct()).scalars().all()
        records = feedback = texts = 0
        for name in present:
            kept = policy.classes.get(name, default)
            old = sql.and_(
                RECORDS.c.retention == name, RECORDS.c.at_us < now_us - round(kept.days * _DAY_US)
            )
            theirs = sql.select(RECORDS.c.id).where(old)
            said = sql.delete(FEEDBACK).where(FEEDBACK.c.prediction.in_(theirs))
            feedback += connection.execute(said).rowcount
            for table in (SELECTED, DISAGREEMENTS):
                connection.execute(sql.delete(table).where(table.c.prediction.in_(theirs)))
            records += connection.execute(sql.delete(RECORDS).where(old)).rowcount
            aged = sql.and_(
                RECORDS.c.retention == name,
                RECORDS.c.text != "",
                RECORDS.c.at_us < now_us - round(kept.text_days * _DAY_US),
            )
            blank = sql.update(RECORDS).where(aged).values(text="")
            texts += connection.execute(blank).rowcount
        longest = max(kept.days for kept in policy.classes.values())
        feedback += connection.execute(_alone(FEEDBACK.c.known_us, now_us, longest)).rowcount
        connection.execute(_alone(DISAGREEMENTS.c.at_us, now_us, longest))
    return Expired(records=records, feedback=feedback, texts=texts)


def _alone(at: sql.Column[int], now_us: int, days: float) -> sql.Delete:
    """Removes what is older than so many days, and is about a record that is not there."""
    old = at < now_us - round(days * _DAY_US)
    return sql.delete(at.table).where(old, at.table.c.prediction.not_in(sql.select(RECORDS.c.id)))
