"""What moved in a period: in which language, since when, by what, and what it likely cost. Pure.

Counts of the period, hour by hour, are held against the reference; alarms were noticed while it
ran, tickets look back over all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Literal

import numpy as np

from xlmr.drift.accuracy import Accuracies, accuracies
from xlmr.drift.alarms import Alarm
from xlmr.drift.bets import (
    MARGIN,
    MIX,
    Bets,
    Finding,
    bets_on_mix,
    bets_within,
    mix_counts,
    mix_names,
)
from xlmr.drift.label_free import Accuracy, Labelled, estimated_accuracy
from xlmr.drift.mix import Shift, split
from xlmr.drift.reference import Reference
from xlmr.drift.signals import POOLED, SIGNALS, Signals, Sketch, name_of_bin
from xlmr.drift.tickets import tickets

FORMAT = 1
_HOUR_S = 3600
_DAY_HOURS = 24
_MOST_TYPICAL = 8

Hours = Sequence[tuple[int, Signals]]


@dataclass(frozen=True, slots=True)
class Told:
    """A ticket, and since when what it is about lasts.

    Attributes:
        kind: `within` a language, or in the `mix` of languages.
        language: in which; of the mix, whose share it is.
        since: hour.
        finding: what tells most.
    """

    kind: Literal["within", "mix"]
    language: str
    since: int
    finding: Finding


@dataclass(frozen=True, slots=True)
class Typical:
    """A bin that became more frequent.

    Attributes:
        signal: of which it is one.
        bin: in words: `label spam`, `confidence from 0.3`.
        was: its share in the reference.
        now: its share in the period.
    """

    signal: str
    bin: str
    was: float
    now: float


@dataclass(frozen=True, slots=True)
class Day:
    """A day of a language.

    Attributes:
        first: its first hour.
        rows: answers.
        accuracy: how many of them are right by estimate; None where nothing says so.
    """

    first: int
    rows: int
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Language:
    """One language in the period.

    Attributes:
        language: its code.
        rows: answers.
        was: its share of the reference's traffic; None where that is not known.
        now: its share of the period's.
        since: the hour from which on something within it is otherwise; None where nothing is.
        accuracies: how right answers were and are.
        moved: what is otherwise within it, the surest first.
        typical: what became more frequent, by how much.
        days: the course of it.
    """

    language: str
    rows: int
    was: float | None
    now: float
    since: int | None
    accuracies: Accuracies
    moved: tuple[Finding, ...]
    typical: tuple[Typical, ...]
    days: tuple[Day, ...]

    @property
    def drifted(self) -> bool:
        """Whether something within it is otherwise."""
        return self.since is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A version's period.

    Attributes:
        model, version, task: whose.
        reference: digest of what it is held against; `source` says which rows those were.
        since, until: hours; the last is not in it.
        rows: answers.
        languages: all that were seen, the drifted ones first.
        mix: each signal's change over all traffic, split.
        tickets: the surest first.
        alarms: noticed in the period, in order.
        closer: what a closer look at texts showed, or why there was none.
    """

    model: str
    version: str
    task: str
    reference: str
    source: str
    since: int
    until: int
    rows: int
    languages: tuple[Language, ...]
    mix: tuple[Shift, ...]
    tickets: tuple[Told, ...]
    alarms: tuple[Alarm, ...]
    closer: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`; times in ISO 8601, shares 0 to 1."""
        return {
            "format": FORMAT,
            "model": self.model,
            "version": self.version,
            "task": self.task,
            "reference": self.reference,
            "source": self.source,
            "since": time_of(self.since),
            "until": time_of(self.until),
            "rows": self.rows,
            "languages": [_language_json(each) for each in self.languages],
            "mix": [asdict(shift) for shift in self.mix],
            "tickets": [asdict(each) | {"since": time_of(each.since)} for each in self.tickets],
            "alarms": [_alarm_json(alarm, self.until) for alarm in self.alarms],
            "closer": dict(self.closer),
        }


def make_report(
    model: str,
    version: str,
    reference: Reference,
    hours: Hours,
    *,
    since: int,
    until: int,
    alarms: Sequence[Alarm] = (),
    labelled: Mapping[str, Labelled] | None = None,
) -> Report:
    """Holds a period against the reference.

    Args:
        model: its name.
        version: of it.
        reference: frozen at release.
        hours: counts of the period, in order, with the reference's labels.
        since: its first hour.
        until: the hour after its last.
        alarms: noticed in it.
        labelled: by language, answers of it whose truth chance had somebody find out.
    """
    whole = Signals(version, reference.task, reference.labels)
    for _, signals in hours:
        whole = whole + signals
    told = [
        _told(reference, hours, each.language, each.finding) for each in tickets(reference, whole)
    ]
    right = accuracies(reference, whole, labelled)
    rows = sum(sketch.rows for sketch in whole.languages.values())
    languages = [
        _language(reference, hours, name, sketch, rows, right[name], told, alarms)
        for name, sketch in whole.languages.items()
    ]
    return Report(
        model=model,
        version=version,
        task=reference.task,
        reference=reference.digest,
        source=reference.source,
        since=since,
        until=until,
        rows=rows,
        languages=tuple(sorted(languages, key=lambda each: (not each.drifted, -each.rows))),
        mix=tuple(split(reference, whole, signal) for signal in SIGNALS),
        tickets=tuple(told),
        alarms=tuple(alarms),
        closer={"languages": {}, "why_not": "nobody looked"},
    )


def time_of(hour: int) -> str:
    """The beginning of an hour, in ISO 8601."""
    return datetime.fromtimestamp(hour * _HOUR_S, UTC).strftime("%Y-%m-%dT%H:%MZ")


def _language(
    reference: Reference,
    hours: Hours,
    name: str,
    sketch: Sketch,
    rows: int,
    right: Accuracies,
    told: Sequence[Told],
    alarms: Sequence[Alarm],
) -> Language:
    own = [each for each in told if (each.kind, each.language) == ("within", name)]
    rung = [each for each in alarms if (each.kind, each.language) == ("within", name)]
    begun = [each.since for each in own] + [each.since for each in rung]
    findings = [each.finding for each in rung] + [each.finding for each in own]
    moved = {finding.signal: finding for finding in findings}
    expected = reference.languages.get(name)
    known = sum(reference.mix.values())
    return Language(
        language=name,
        rows=sketch.rows,
        was=reference.mix.get(name, 0) / known if known else None,
        now=sketch.rows / rows,
        since=min(begun, default=None),
        accuracies=right,
        moved=tuple(sorted(moved.values(), key=lambda finding: -finding.log_e)),
        typical=() if expected is None else _typical(reference, expected.sketch, sketch, moved),
        days=tuple(_days(reference, hours, name)),
    )


def _typical(
    reference: Reference, before: Sketch, now: Sketch, moved: Mapping[str, Finding]
) -> tuple[Typical, ...]:
    """Bins of what moved that gained more than is worth telling, the greatest gain first."""
    found = []
    for signal in moved:
        was_B, now_B = _shares(before.bins[signal]), _shares(now.bins[signal])
        for place, (was, is_now) in enumerate(zip(was_B, now_B, strict=True)):
            if is_now - was >= MARGIN:
                name = name_of_bin(signal, place, reference.labels)
                found.append(Typical(signal, name, was, is_now))
    return tuple(sorted(found, key=lambda each: each.was - each.now)[:_MOST_TYPICAL])


def _days(reference: Reference, hours: Hours, name: str) -> list[Day]:
    days, expected = [], reference.languages.get(name)
    for day, group in groupby(hours, key=lambda each: each[0] // _DAY_HOURS):
        sketches = [signals.languages[name] for _, signals in group if name in signals.languages]
        if sketches:
            whole = sum(sketches[1:], start=sketches[0])
            found = estimated_accuracy(whole, expected)
            share = None if found is None else found.share
            days.append(Day(day * _DAY_HOURS, whole.rows, share))
    return days


def _told(reference: Reference, hours: Hours, language: str, finding: Finding) -> Told:
    """Since when: from there on the evidence grows, all of it counted (the last minimum)."""
    if finding.signal == MIX:
        names = mix_names(reference.mix)
        days = [
            (day * _DAY_HOURS, {MIX: mix_counts(_rows(group), names)})
            for day, group in groupby(hours, key=lambda each: each[0] // _DAY_HOURS)
        ]
        return Told("mix", language, _since(bets_on_mix(reference.mix), days, MIX), finding)
    bets = bets_within(reference.languages[language].sketch, reference.labels)
    own = [
        (hour, signals.languages[language].bins)
        for hour, signals in hours
        if language in signals.languages
    ]
    kind: Literal["within", "mix"] = "mix" if language in POOLED else "within"
    return Told(kind, language, _since(bets, own, finding.signal), finding)


def _since(
    bets: Bets, windows: Sequence[tuple[int, Mapping[str, Sequence[int]]]], signal: str
) -> int:
    log_e_WK = np.stack([bets.log_e_K(bins) for _, bins in windows])
    bet = bets.best(bets.signals.index(signal), log_e_WK.sum(axis=0))
    grown_W = np.concatenate([[0.0], log_e_WK[:-1, bet].cumsum()])
    return windows[int(grown_W.argmin())][0]


def _rows(group: Any) -> dict[str, int]:
    rows: dict[str, int] = {}
    for _, signals in group:
        for name, sketch in signals.languages.items():
            rows[name] = rows.get(name, 0) + sketch.rows
    return rows


def _shares(counts: Sequence[int]) -> list[float]:
    rows = sum(counts) or 1
    return [count / rows for count in counts]


def _language_json(each: Language) -> dict[str, Any]:
    right = each.accuracies
    return {
        "language": each.language,
        "rows": each.rows,
        "share": {"was": each.was, "now": each.now},
        "drifted": each.drifted,
        "since": None if each.since is None else time_of(each.since),
        "accuracy": {
            "release": _plain(right.release),
            "estimated": _plain(right.estimated),
            "labels_only": _plain(right.labels_only),
            "labelled": _plain(right.labelled),
            "lost": right.lost,
        },
        "moved": [asdict(finding) for finding in each.moved],
        "typical": [asdict(typical) for typical in each.typical],
        "days": [asdict(day) | {"first": time_of(day.first)} for day in each.days],
    }


def _alarm_json(alarm: Alarm, until: int) -> dict[str, Any]:
    return {
        "kind": alarm.kind,
        "language": alarm.language,
        "noticed": time_of(alarm.window + 1),
        "last": time_of(alarm.last + 1),
        "times": alarm.times,
        "open": alarm.open_at(until - 1),
        "since": time_of(alarm.since),
        "finding": asdict(alarm.finding),
    }


def _plain(accuracy: Accuracy | None) -> dict[str, Any] | None:
    return None if accuracy is None else asdict(accuracy)
