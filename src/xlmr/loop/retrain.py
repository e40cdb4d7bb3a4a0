"""Whether to train again: an order that says with what and why, or the reasons not to. Pure.

Evidence asks for it: a language drifted, labels show that answers are less often right than they
should be, or many labels are new. A least distance between two trainings and a budget keep an
alarm that does not end from training without end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from xlmr.loop.accuracy import Estimate
from xlmr.loop.suspicion import Suspicion

# What the journal's lines of an order, and of how it ended, are called.
ORDERED, ENDED = "retrain", "retrained"
Outcome = Literal["shadow", "refused", "failed", "abandoned"]
_DAY_S = 86_400.0
_BUDGET_DAYS = 30
# Fewer labelled answers prove little of accuracy.
_LEAST_CHECKED = 30


class Noted(Protocol):
    """A line of the journal, as far as it is read here."""

    @property
    def seq(self) -> int:
        """Its number."""

    @property
    def at_us(self) -> int:
        """When, in microseconds since 1970 UTC."""

    @property
    def action(self) -> str:
        """What was done."""

    @property
    def version(self) -> int:
        """Of which version."""

    @property
    def detail(self) -> str:
        """More, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """An order of before.

    Attributes:
        order: its number: of its line in the journal.
        at_us: when; labels that were known then were learned from.
        parent: the version it started from.
        host: where it was to be carried out: a machine and a directory.
        outcome: how it ended; empty while it is open.
        hours: it took, of computing.
    """

    order: int
    at_us: int
    parent: int
    host: str = ""
    outcome: Outcome | Literal[""] = ""
    hours: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an order needs, and how often there may be one.

    Attributes:
        least_labels: labelled texts that are new since the last training.
        least_in_drifted: of them, in at least one of the languages that drifted.
        enough_labels: so many new ones are a reason by themselves.
        least_accuracy: share of right answers that a language should have; None asks for none.
        days: between two trainings, but for those that failed.
        runs: in 30 days, those that failed included.
        hours: of computing in 30 days.
    """

    least_labels: int = 100
    least_in_drifted: int = 20
    enough_labels: int = 1000
    least_accuracy: float | None = None
    days: float = 3.0
    runs: int = 4
    hours: float = 48.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known when it is decided.

    Attributes:
        now_us: in microseconds since 1970 UTC.
        live: the version that answers; 0 for none.
        rolling: the version that a rollout under way may make live; empty for none.
        labels: language → labelled texts that are new since the last training.
        left_out: why others of them cannot be learned from, in a sentence; empty where all can.
        accuracy: language → of the live version, by labels on answers that chance picked.
        suspicions: languages that drifted.
        trainings: orders of before.
    """

    now_us: int
    live: int
    rolling: str = ""
    labels: Mapping[str, int]
    left_out: str = ""
    accuracy: Mapping[str, Estimate]
    suspicions: Sequence[Suspicion] = ()
    trainings: Sequence[Training] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """Train again.

    Attributes:
        parent: the version whose recipe and data are taken, and which it is compared with.
        at_us: labels that were known then are learned from, and none that came later.
        labels: language → how many of them are new.
        why: in sentences.
    """

    parent: int
    at_us: int
    labels: Mapping[str, int]
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoOrder:
    """Not now; why, in sentences."""

    why: tuple[str, ...]


def decide(facts: Facts, limits: Limits) -> Order | NoOrder:
    """An order, or all reasons why there is none."""
    evidence = list(_evidence(facts, limits))
    against = list(_against(facts, limits))
    if not evidence:
        against.insert(0, "nothing asks for it: no drift, no accuracy that is too low, few labels")
    if against:
        return NoOrder(tuple(against))
    return Order(facts.live, facts.now_us, dict(facts.labels), tuple(evidence))


def last_learned_us(trainings: Iterable[Training]) -> int:
    """Up to which moment labels were learned from; 0 where nobody trained on any yet."""
    return max((t.at_us for t in trainings if t.outcome not in ("failed", "abandoned")), default=0)


def trainings_of(entries: Iterable[Noted]) -> list[Training]:
    """Orders and how they ended, out of a name's journal."""
    found: dict[int, Training] = {}
    for entry in entries:
        if entry.action not in (ORDERED, ENDED):
            continue
        said = json.loads(entry.detail)
        if entry.action == ORDERED:
            found[entry.seq] = Training(
                order=entry.seq, at_us=said["at_us"], parent=entry.version, host=said["host"]
            )
        elif (order := found.get(said["order"])) is not None:
            found[order.order] = Training(
                order=order.order,
                at_us=order.at_us,
                parent=order.parent,
                host=order.host,
                outcome=said["outcome"],
                hours=said["hours"],
            )
    return list(found.values())


def order_detail(order: Order, *, host: str) -> str:
    """What the journal's line of an order says besides, as JSON."""
    return _canonical({"at_us": order.at_us, "host": host, "labels": dict(order.labels)})


def outcome_detail(order: int, outcome: Outcome, *, hours: float, **more: Any) -> str:
    """What the line of an order's end says besides, as JSON."""
    said = {"order": order, "outcome": outcome, "hours": round(hours, 4)}
    return _canonical(said | more)


def _evidence(facts: Facts, limits: Limits) -> Iterator[str]:
    for suspicion in facts.suspicions:
        said = f"{suspicion.language} drifted"
        said += f" since {_day(suspicion.since * 1e6)}" if suspicion.since else ""
        said += f" ({', '.join(suspicion.signals)})" if suspicion.signals else ""
        if suspicion.lost is not None and suspicion.lost >= 1.0:
            said += f"; some {suspicion.lost:.0f} more answers are wrong than before"
        yield said
    for language, found in sorted(facts.accuracy.items()):
        least = limits.least_accuracy
        if least is not None and found.rows >= _LEAST_CHECKED and found.high < least:
            yield (
                f"{language}: {_percent(found.share)} of the answers are right "
                f"({_percent(found.low)} to {_percent(found.high)}, {found.rows} labelled); "
                f"{_percent(least)} are asked for"
            )
    new = sum(facts.labels.values())
    if new >= limits.enough_labels:
        yield f"{new} labelled texts are new, which is reason enough"


def _against(facts: Facts, limits: Limits) -> Iterator[str]:
    if not facts.live:
        yield "no version is live to start from"
    if facts.rolling:
        yield f"version {facts.rolling} is being rolled out; first it goes live, or back"
    for training in facts.trainings:
        if not training.outcome:
            yield f"order {training.order}, given on {training.host}, has not ended"
    new = sum(facts.labels.values())
    if new < limits.least_labels:
        yield f"{new} labelled texts are new, {limits.least_labels} are asked for (`xlmr select`)"
        if facts.left_out:
            yield facts.left_out
    drifted = {s.language: facts.labels.get(s.language, 0) for s in facts.suspicions}
    if drifted and max(drifted.values()) < limits.least_in_drifted:
        said = ", ".join(f"{language} {count}" for language, count in drifted.items())
        least = limits.least_in_drifted
        yield f"of what drifted too few texts are labelled: {said}; {least} are asked for"
    yield from _spent(facts, limits)


def _spent(facts: Facts, limits: Limits) -> Iterator[str]:
    """What keeps an alarm that does not end from training without end."""
    if last_us := last_learned_us(facts.trainings):
        next_us = last_us + limits.days * _DAY_S * 1e6
        if facts.now_us < next_us:
            days = f"{limits.days:g} days"
            yield f"the last training is less than {days} ago; from {_day(next_us)} on"
    since_us, window = facts.now_us - _BUDGET_DAYS * _DAY_S * 1e6, f"in {_BUDGET_DAYS} days"
    recent = [t for t in facts.trainings if t.at_us > since_us]
    if len(recent) >= limits.runs:
        yield f"{len(recent)} trainings {window}; the budget is {limits.runs}"
    hours = sum(t.hours for t in recent)
    if hours >= limits.hours:
        yield f"{hours:.1f} hours of computing {window}; the budget is {limits.hours:g}"


def _day(at_us: float) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _canonical(said: Mapping[str, Any]) -> str:
    return json.dumps(said, sort_keys=True, separators=(",", ":"))
