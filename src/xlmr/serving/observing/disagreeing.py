"""What a version in the shadow answered otherwise, on its way to the feedback store."""

from __future__ import annotations

import logging
from collections.abc import Callable

from xlmr.errors import XlmrError
from xlmr.feedback.disagreements import Disagreement, add_disagreements
from xlmr.feedback.store import Store, microseconds
from xlmr.telemetry.outbox import Outbox

logger = logging.getLogger("xlmr.serving.observing")

_MOST_WAITING = 1000
_GATHERING_SECONDS = 1.0


class Disagreeing:
    """Keeps disagreements by a thread of its own.

    What finds no room, or no store, is lost: how often versions agree is counted by the rollout.
    """

    def __init__(self, store: Callable[[], Store]) -> None:
        """Starts the thread; the store is opened when there is something to keep."""
        self._store = store
        self._outbox = Outbox(
            self._keep,
            name="xlmr-disagreeing",
            most_waiting=_MOST_WAITING,
            gathering_s=_GATHERING_SECONDS,
        )

    def __call__(self, prediction: str, version: str, label: str) -> None:
        """Queues one; never waits."""
        self._outbox.put(
            Disagreement(prediction=prediction, version=version, label=label, at_us=microseconds())
        )

    def close(self, timeout_s: float = 2.0) -> None:
        """Writes what waits, for at most so long, and ends."""
        self._outbox.close(timeout_s)

    def _keep(self, found: list[Disagreement]) -> None:
        try:
            add_disagreements(self._store(), found)
        except XlmrError as fault:
            logger.warning("%s; %d disagreements were not kept", fault.message, len(found))
