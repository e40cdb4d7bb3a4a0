"""Where the drift store is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from xlmr.drift.keeping import DriftStore
from xlmr.errors import SettingsError
from xlmr.settings import Settings


@contextlib.contextmanager
def opened_drift(settings: Settings) -> Iterator[DriftStore]:
    """The drift store, in the feedback store's database unless it has its own; closed at the end.

    Raises:
        SettingsError: none is named, or its URL is none of a database.
        FeedbackUnavailableError: it cannot be reached.
    """
    url = settings.drift or settings.feedback
    if not url:
        raise SettingsError("no drift store is named", hint="--drift PATH, or XLMR_DRIFT")
    with contextlib.closing(DriftStore(url)) as store:
        yield store
