"""Where a version in the shadow answered otherwise than the one people saw; never with a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from xlmr.errors import MissingExtraError
from xlmr.feedback.store import Store

try:
    import sqlalchemy as sql
except ImportError:
    raise MissingExtraError("sqlalchemy", extra="feedback") from None

from xlmr.feedback.tables import DISAGREEMENTS, storable


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """A prediction that another version would not have made.

    Attributes:
        prediction: its id.
        version: that read it in the shadow.
        label: what that one said; empty where the task has none.
        at_us: when, in microseconds since 1970 UTC.
    """

    prediction: str
    version: str
    label: str
    at_us: int


def add_disagreements(store: Store, found: Sequence[Disagreement]) -> None:
    """Keeps them, all or none; one that is there already stays as it is.

    Raises:
        FeedbackUnavailableError: the database is away, busy for too long, or full.
    """
    rows = [_row(each) for each in found]
    if rows:
        with store.writing() as connection:
            connection.execute(store.insert(DISAGREEMENTS).on_conflict_do_nothing(), rows)


def disagreements_among(store: Store, predictions: Sequence[str]) -> dict[str, Disagreement]:
    """Of these predictions, those that another version would not have made; the last that read."""
    asked = (
        sql.select(DISAGREEMENTS)
        .where(DISAGREEMENTS.c.prediction.in_(predictions))
        .order_by(DISAGREEMENTS.c.at_us)
    )
    with store.reading() as connection:
        rows = connection.execute(asked).all()
    return {row.prediction: Disagreement(**row._mapping) for row in rows}


def _row(found: Disagreement) -> dict[str, Any]:
    return {k: storable(v) if isinstance(v, str) else v for k, v in asdict(found).items()}
