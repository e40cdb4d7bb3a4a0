"""What this server counted, on its way to where the counts of all servers are added up.

Counts travel in numbered additions, one under way at a time for each stage of a rollout. Whether an
addition arrived may be unknown: it is sent again as it was, under its number, and counts once. What
is counted meanwhile waits and grows into the next one, so a store that is away for hours costs no
count, and no more memory than what one stage counts.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from xlmr.registry.rollout.burn import MINUTE, WINDOWS, Window
from xlmr.registry.rollout.evidence import Evidence

if TYPE_CHECKING:
    from xlmr.registry.rollout.counts import CountStore
    from xlmr.serving.routing.tally import Drained

logger = logging.getLogger("xlmr.serving.follow")

# Stages that wait to be sent; those of rollouts long over are dropped first.
_MOST_STAGES = 64
# Minutes that are older than every window are of no use any more.
_MOST_MINUTES = WINDOWS[-1] // MINUTE + 1


class Addition(NamedTuple):
    """Counts, and of them units and harmed units by minute since 1970."""

    evidence: Evidence
    minutes: Mapping[int, Window]

    def plus(self, other: Addition) -> Addition:
        """Both."""
        minutes = dict(self.minutes)
        for minute, window in other.minutes.items():
            had = minutes.get(minute, Window(0, 0))
            minutes[minute] = Window(had.units + window.units, had.harmed + window.harmed)
        latest = dict(sorted(minutes.items())[-_MOST_MINUTES:])
        return Addition(self.evidence + other.evidence, latest)


@dataclass(slots=True)
class _Stage:
    """Of one salt and epoch: the number of the last addition, what is under way, what waits."""

    sequence: int = 0
    under_way: Addition | None = None
    waiting: Addition | None = None


@dataclass(slots=True)
class Ledger:
    """Additions of one server, which is called like no other before or after."""

    server: str
    _stages: dict[tuple[str, int], _Stage] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, drained: Iterable[Drained]) -> None:
        """Takes what was counted since the last time."""
        with self._lock:
            for one in drained:
                stage = self._stages.setdefault((one.salt, one.epoch), _Stage())
                more = Addition(one.evidence, one.minutes)
                stage.waiting = more if stage.waiting is None else stage.waiting.plus(more)
            unsent = [key for key, stage in self._stages.items() if stage.waiting is not None]
            for key in unsent[: max(0, len(unsent) - _MOST_STAGES)]:
                logger.warning("counts of an old stage are dropped: they could not be sent")
                self._stages[key].waiting = None

    def send(self, counts: CountStore) -> None:
        """Sends what there is.

        Raises:
            RegistryUnavailableError: the store is away; nothing is lost.
        """
        with self._lock:
            for (salt, epoch), stage in self._stages.items():
                while (addition := _next(stage)) is not None:
                    counts.add(
                        salt,
                        epoch,
                        server=self.server,
                        sequence=stage.sequence,
                        evidence=addition.evidence,
                        minutes=addition.minutes,
                    )
                    stage.under_way = None


def _next(stage: _Stage) -> Addition | None:
    """What is under way still, or what waits, under the next number."""
    if stage.under_way is None and stage.waiting is not None:
        stage.under_way, stage.waiting = stage.waiting, None
        stage.sequence += 1
    return stage.under_way
