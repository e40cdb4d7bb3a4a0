"""Counts of a rollout in this process, between two additions to where all servers count.

What is counted is a unit: a request; or a caller, where the rollout says so and the caller has a
name. A unit counts once, once for each event, and for one label, however often it comes again. A
caller counts in the language of its first request, and once on each server that it comes to. Of
callers nothing is kept but a digest under a key of this process.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xlmr.registry.rollout.assignment import key_of
from xlmr.registry.rollout.burn import Window
from xlmr.registry.rollout.evidence import HARMS, Counts, Evidence, Pairs

if TYPE_CHECKING:
    from xlmr.registry.rollout.routing import Counting

# Callers remembered in one stage. Those beyond are not counted, on either side alike: to forget one
# and count it again would make one unit two.
MOST_CALLERS = 50_000
# Requests of the stage before may end after the next one began.
_STAGES = 2
_LABEL, _PAIR = "label", "pair"
_HARMS = frozenset(HARMS)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one request shows of the version that answered it.

    Attributes:
        language: of its first text.
        events: of `registry.rollout.evidence.EVENTS`.
        label: of its first text, where it was asked for labels.
    """

    language: str
    events: tuple[str, ...] = ()
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Drained:
    """What was counted since the last time under one salt and epoch.

    Attributes:
        minutes: requests, and harmed ones, by the minute since 1970. Requests whatever the unit is:
            they tell how fast harm is done.
    """

    salt: str
    epoch: int
    evidence: Evidence
    minutes: Mapping[int, Window]


@dataclass(slots=True)
class _Cell:
    units: int = 0
    events: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Stage:
    """Everything under one salt and epoch. `callers` stays from drain to drain."""

    cells: dict[tuple[str, str], _Cell] = field(default_factory=dict)
    pairs: dict[str, tuple[int, int]] = field(default_factory=dict)
    requests: int = 0
    harmed: int = 0
    callers: dict[bytes, tuple[str, frozenset[str]]] = field(default_factory=dict)


class Tally:
    """Counts what requests show. May be called from any thread."""

    def __init__(self, *, most_callers: int = MOST_CALLERS) -> None:
        self._most_callers = most_callers
        self._secret = secrets.token_bytes(16)
        self._lock = threading.Lock()
        self._stages: dict[tuple[str, int], _Stage] = {}

    def count(self, counting: Counting, arm: str, seen: Seen, *, caller: str) -> None:
        """Counts one request of an arm."""
        key = self._key(counting, arm, caller)
        with self._lock:
            self._count(self._stage(counting), key, arm, seen)

    def pair(
        self, counting: Counting, seen: Mapping[str, Seen], *, agreed: bool | None, caller: str
    ) -> None:
        """Counts a request that was read by both versions: for each, and as a pair.

        Args:
            seen: by arm.
            agreed: whether the answers to its first text are the same; None where that cannot be
                said.
        """
        keys = {arm: self._key(counting, arm, caller) for arm in seen}
        key = self._key(counting, "", caller)
        with self._lock:
            stage = self._stage(counting)
            for arm, one in seen.items():
                self._count(stage, keys[arm], arm, one)
            if agreed is None:
                return
            language = next(iter(seen.values())).language
            _, language, news = self._news(stage, key, language, (_PAIR,))
            if news:
                compared, disagreed = stage.pairs.get(language, (0, 0))
                stage.pairs[language] = (compared + 1, disagreed + (not agreed))

    def drain(self, *, now: float) -> list[Drained]:
        """What was counted since the last time; it belongs to whoever drains.

        Args:
            now: seconds since 1970. What was counted is put into its minute, so it should be
                drained every few seconds, also while it cannot be handed on.
        """
        with self._lock:
            filled = {
                key: stage
                for key, stage in self._stages.items()
                if stage.requests or stage.cells or stage.pairs
            }
            for (salt, epoch), stage in filled.items():
                self._stages[salt, epoch] = _Stage(callers=stage.callers)
        minute = int(now // 60)
        return [
            Drained(salt, epoch, _evidence(stage), {minute: Window(stage.requests, stage.harmed)})
            for (salt, epoch), stage in filled.items()
        ]

    def _stage(self, counting: Counting) -> _Stage:
        key = counting.salt, counting.epoch
        stage = self._stages.get(key)
        if stage is None:
            stage = self._stages[key] = _Stage()
            for old in list(self._stages)[:-_STAGES]:
                if not (self._stages[old].cells or self._stages[old].pairs):
                    del self._stages[old]
        return stage

    def _count(self, stage: _Stage, key: bytes | None, arm: str, seen: Seen) -> None:
        stage.requests += 1
        stage.harmed += any(event in _HARMS for event in seen.events)
        told = seen.events if seen.label is None else (*seen.events, _LABEL)
        new, language, news = self._news(stage, key, seen.language, told)
        if not new and not news:
            return
        cell = stage.cells.get((arm, language))
        if cell is None:
            cell = stage.cells[arm, language] = _Cell()
        cell.units += new
        for event in news:
            if event is not _LABEL:
                cell.events[event] = cell.events.get(event, 0) + 1
            elif seen.label is not None:
                cell.labels[seen.label] = cell.labels.get(seen.label, 0) + 1

    def _news(
        self, stage: _Stage, key: bytes | None, language: str, told: tuple[str, ...]
    ) -> tuple[bool, str, Iterable[str]]:
        """Whether it is a new unit, the language it counts in, and what was not told of it yet."""
        if key is None:
            return True, language, told
        met = stage.callers.get(key)
        if met is None:
            if len(stage.callers) >= self._most_callers:
                return False, language, ()
            stage.callers[key] = (language, frozenset(told))
            return True, language, told
        language, known = met
        news = [event for event in told if event not in known]
        if news:
            stage.callers[key] = (language, known.union(news))
        return False, language, news

    def _key(self, counting: Counting, arm: str, caller: str) -> bytes | None:
        """By which a unit is known again; None for a request, which never comes again."""
        named = key_of(counting.unit, caller=caller, request_id="")
        if not named:
            return None
        told = f"{arm}\n{named}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(told, key=self._secret, digest_size=8).digest()


def _evidence(stage: _Stage) -> Evidence:
    arms: dict[str, dict[str, Counts]] = {}
    for (arm, language), cell in stage.cells.items():
        counts = Counts(units=cell.units, events=cell.events, labels=cell.labels)
        arms.setdefault(arm, {})[language] = counts
    pairs = {
        language: Pairs(compared=compared, disagreed=disagreed)
        for language, (compared, disagreed) in stage.pairs.items()
    }
    return Evidence(arms=arms, pairs=pairs)
