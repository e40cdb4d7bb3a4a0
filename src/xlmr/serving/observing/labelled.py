"""What labels tell of how right answers are: counts by language, of what chance picked."""

from __future__ import annotations

from xlmr.drift.label_free import Labelled
from xlmr.feedback.selected import checked
from xlmr.feedback.store import Store


def labelled_by_language(
    store: Store, *, model: str, version: str, since_us: int, until_us: int = 1 << 62
) -> dict[str, Labelled]:
    """Of a version's answers in a time, those that annotators were asked about by chance."""
    counts: dict[str, Labelled] = {}
    for row in checked(store, model=model, version=version, since_us=since_us, until_us=until_us):
        right = Labelled(1, int(row.predicted == row.label))
        counts[row.language] = counts.get(row.language, Labelled()) + right
    return counts
