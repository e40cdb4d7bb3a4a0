"""Hands on what this server counted, and looks at the rollouts of the names it follows.

A thread of its own: neither a store that is slow nor a look that takes long holds up the routing.
Several servers look at the same rollout, at moments of their own; the registry takes the first.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from xlmr.errors import XlmrError
from xlmr.serving.follow.outage import Outage

if TYPE_CHECKING:
    from xlmr.registry.rollout.counts import CountStore
    from xlmr.serving.follow.ledger import Ledger
    from xlmr.serving.routing.tally import Drained

logger = logging.getLogger("xlmr.serving.follow")

# Of the time between two rounds, so that servers do not go on in step.
_JITTER = 0.25
_CLOSE_S = 5.0


class Counting:
    """Counts go out, verdicts are asked for.

    Args:
        ledger: what waits to be handed on.
        drain: what was counted since the last time, told the seconds since 1970.
        counts: where it is added up; raises RegistryUnavailableError where that is away.
        look: judges the rollout of a name.
        names: that are looked at.
        every_s: between two rounds.
        now: seconds since 1970.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        drain: Callable[[float], Iterable[Drained]],
        counts: Callable[[], CountStore],
        look: Callable[[str], object],
        names: Collection[str],
        every_s: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._drain, self._counts, self._look = drain, counts, look
        self._every_s, self._now = every_s, now
        self._unsent = Outage("counts cannot be handed on; they are kept")
        self._unseen = {name: Outage(f"the rollout of {name} is not judged") for name in names}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="xlmr-count", daemon=True)

    def begin(self) -> None:
        """Starts it."""
        self._thread.start()

    def close(self) -> None:
        """Ends it; what is counted by then is handed on, if that can be done at once."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_S)

    def round(self) -> None:
        """Hands on what there is, and looks at every rollout."""
        self.hand_on()
        for name, outage in self._unseen.items():
            try:
                self._look(name)
            except XlmrError as fault:
                outage.failed(fault)
            else:
                outage.over()

    def hand_on(self) -> None:
        """Sends what was counted; where that fails, it is kept."""
        self._ledger.note(self._drain(self._now()))
        try:
            self._ledger.send(self._counts())
        except XlmrError as fault:
            self._unsent.failed(fault)
        else:
            self._unsent.over()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s * random.uniform(1 - _JITTER, 1 + _JITTER)):
            try:
                self.round()
            except Exception:
                logger.exception("a round of counting failed; the next one follows")
        self.hand_on()
