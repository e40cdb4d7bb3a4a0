"""Labelled texts for training, as they were known at a moment.

Asked again for the same moment it gives the same rows, whatever was corrected since; only what was
erased or has expired is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xlmr.feedback.labels import Conflict, settle
from xlmr.feedback.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A row to train on: `xlmr train --train FILE.jsonl` reads it as it stands.

    Attributes:
        text: redacted.
        label: what holds.
        language: of the text.
        id: the prediction's.
        predicted: what the model had said.
        source: who says what holds.
        contested: whether somebody says otherwise.
    """

    text: str
    label: str
    language: str
    id: str
    predicted: str
    source: str
    contested: bool


def examples_at(
    store: Store,
    at_us: int,
    *,
    conflict: Conflict = "priority",
    since_us: int = 0,
    model: str = "",
) -> Iterator[Example]:
    """Predictions whose text was kept and of which somebody had said something by then.

    Args:
        store: where from.
        at_us: the moment; nothing that came later leaks in.
        conflict: what holds where people disagree; see `settle`.
        since_us: only predictions from then on.
        model: only predictions of this one; of all where empty.
    """
    kept = (
        record
        for record in store.records(since_us=since_us, until_us=at_us + 1)
        if record.text and model in ("", record.model)
    )
    for record, said in store.with_feedback(kept, known_us=at_us):
        settled = settle(said, conflict)
        if settled is not None:
            yield Example(
                text=record.text,
                label=settled.label,
                language=record.language,
                id=record.id,
                predicted=record.label,
                source=settled.source,
                contested=settled.contested,
            )
