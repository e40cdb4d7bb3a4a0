"""Which predictions people were asked to label, and what those that chance picked say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from xlmr.errors import MissingExtraError
from xlmr.feedback.labels import settle
from xlmr.feedback.store import FOREVER, Store

try:
    import sqlalchemy as sql
except ImportError:
    raise MissingExtraError("sqlalchemy", extra="feedback") from None

from xlmr.feedback.tables import RECORDS, SELECTED

_TOGETHER = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """A prediction that somebody was asked to label.

    Attributes:
        prediction: its id.
        inclusion: probability with which chance picked it; 0 for what chance did not pick.
        at_us: when it was asked for first.
    """

    prediction: str
    inclusion: float
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An answer that chance picked, and what an annotator says of it.

    Attributes:
        version, language: of the answer.
        predicted: its label.
        label: the right one.
        inclusion: the probability with which it was picked.
    """

    version: str
    language: str
    predicted: str
    label: str
    inclusion: float


def population(
    store: Store, *, model: str, version: str, since_us: int, until_us: int, texts: bool
) -> int:
    """How many labels a model (a version of it, unless empty) predicted in a window.

    Args:
        texts: count only those whose text was kept.
    """
    asked = (
        sql.select(sql.func.count())
        .where(RECORDS.c.at_us >= since_us, RECORDS.c.at_us < until_us)
        .where(RECORDS.c.model == model, RECORDS.c.label != "")
    )
    asked = asked.where(RECORDS.c.version == version) if version else asked
    asked = asked.where(RECORDS.c.text != "") if texts else asked
    with store.reading() as connection:
        return int(connection.execute(asked).scalar_one())


def add_selected(store: Store, rows: Sequence[Selected]) -> None:
    """Notes what was asked. Of one that chance picked twice the greater probability stays."""
    with store.writing() as connection:
        for start in range(0, len(rows), _TOGETHER):
            these = [asdict(row) for row in rows[start : start + _TOGETHER]]
            added = store.insert(SELECTED).values(these)
            connection.execute(
                added.on_conflict_do_update(
                    index_elements=[SELECTED.c.prediction],
                    set_={"inclusion": added.excluded.inclusion},
                    where=added.excluded.inclusion > SELECTED.c.inclusion,
                )
            )


def selected_among(store: Store, predictions: Sequence[str]) -> set[str]:
    """Which of these were asked for already."""
    found: set[str] = set()
    with store.reading() as connection:
        for start in range(0, len(predictions), _TOGETHER):
            these = SELECTED.c.prediction.in_(predictions[start : start + _TOGETHER])
            asked = sql.select(SELECTED.c.prediction).where(these)
            found.update(connection.execute(asked).scalars())
    return found


def checked(
    store: Store,
    *,
    model: str,
    version: str = "",
    since_us: int = 0,
    until_us: int = FOREVER,
    known_us: int = FOREVER,
) -> Iterator[Checked]:
    """What annotators say of the answers that chance picked: all that labels tell of accuracy.

    What users report does not count: they speak up where something went wrong.

    Args:
        store: where from.
        model: whose answers.
        version: of one version; of all where empty.
        since_us, until_us: of answers in this window.
        known_us: only what had been said by then.
    """
    columns = (RECORDS.c.id, RECORDS.c.at_us, RECORDS.c.version, RECORDS.c.language)
    asked = (
        sql.select(*columns, RECORDS.c.label, SELECTED.c.inclusion)
        .join(SELECTED, SELECTED.c.prediction == RECORDS.c.id)
        .where(SELECTED.c.inclusion > 0.0, RECORDS.c.model == model)
    )
    asked = asked.where(RECORDS.c.version == version) if version else asked
    rows = store.pages(asked, since_us=since_us, until_us=until_us)
    for row, said in store.with_feedback(rows, known_us=known_us):
        annotated = [each for each in said if each.source == "annotator"]
        if (settled := settle(annotated, "majority")) is not None:
            yield Checked(
                version=row.version,
                language=row.language,
                predicted=row.label,
                label=settled.label,
                inclusion=row.inclusion,
            )
