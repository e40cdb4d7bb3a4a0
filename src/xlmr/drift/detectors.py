"""Alarms while traffic runs, with a budget for false ones: Shiryaev-Roberts e-detectors. Pure.

One stream for each language and signal, and one for the mix of languages. After every window of
counts each bet's M becomes (M + 1) · E, as if a new bettor with 1 came in with each window; a
stream's M is the mean over its bets, and it alarms at M ≥ c. While nothing has changed M grows by 1
a window at most in expectation, so an alarm within n windows has probability n / c at most, and a
fleet that sets c = streams · windows a month / budget has at most the budget's false alarms a
month, however its streams depend on each other.

A window may be looked at while it runs, as often as one likes: within it (M + 1) · E does not grow
in expectation, so all its looks together count as one. What alarmed at a look does not alarm again
when the window is over.

Windows of a bucket of several languages (`POOLED`) are days, as the mix's are: its languages sleep
at different hours. What changes in it is called mix, for nobody can tell.

This holds where rows are independent and lie within the reference's bands (`bets`). One caller who
sends the same text ten thousand times is drift to it, and rightly so.

Counts of servers add up exactly before a step; states do not: two watches that each saw half cannot
be made the one that saw all. So one state is kept for all servers, whoever takes the step, and a
window's counts are complete when it is stepped; what comes late belongs into the next one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from xlmr.drift.alarms import Alarm
from xlmr.drift.bets import MIX, Bets, Finding, Floats, bets_of, bets_on_mix, mix_counts, mix_names
from xlmr.drift.reference import Reference
from xlmr.drift.signals import POOLED, Signals, Sketch, empty_sketch, whole_sketch
from xlmr.errors import DataError

_FORMAT = 1
_DAYS = 30
# M below 1: nothing speaks for a change before this window.
_NO_DOUBT = math.log(2.0)


@dataclass(frozen=True, slots=True)
class Budget:
    """How many false alarms are put up with.

    Attributes:
        alarms_a_month: of the whole fleet, in thirty days.
        streams: of all its watches together; None for those of this watch alone.
        windows_a_day: of counts; 24 are hours.
    """

    alarms_a_month: float = 1.0
    streams: int | None = None
    windows_a_day: int = 24


class _State(NamedTuple):
    """Of some bets: ln(1 + M), finite and 0 at the start, and since when it grows."""

    grown_K: Floats
    since_K: NDArray[np.int64]


class Watch:
    """Watches one version and task against its reference.

    Args:
        reference: frozen at release.
        budget: of false alarms.
    """

    def __init__(self, reference: Reference, budget: Budget | None = None) -> None:
        self._reference = reference
        self._budget = budget or Budget()
        self._bets = bets_of(reference)
        self._states = {name: _fresh(bets) for name, bets in self._bets.items()}
        self._names = mix_names(reference.mix)
        self._mix_bets = bets_on_mix(reference.mix)
        self._mix_state = _fresh(self._mix_bets)
        self._day = 0
        self._day_rows: dict[str, int] = {}
        self._day_pooled: dict[str, Sketch] = {}
        self._window = self._looked = -1
        self._rung: dict[str, list[str]] = {}

    @property
    def streams(self) -> int:
        """How many share the budget."""
        return sum(len(bets.signals) for bets in self._bets.values()) + 1

    def step(self, window: int, signals: Signals) -> list[Alarm]:
        """Takes in the counts of one window that is over; alarms start anew.

        Windows without rows may be left out. Languages that the reference does not know count in
        the mix alone. The mix is looked at when a day is over: languages sleep at different hours.
        A reference without a mix has none of it.

        Args:
            window: its number, time by length; nothing happens where it was taken in before.
            signals: of all servers.

        Raises:
            DataError: the signals were counted for another task, or with other labels.
        """
        self._check(signals)
        if window <= self._window:
            return []
        self._window = window
        alarms = self._end_day(window)
        self._add_to_day(signals)
        for name, state, found in self._weighed(window, signals):
            self._states[name] = state
            alarms += found
        return alarms

    def look(self, window: int, signals: Signals) -> list[Alarm]:
        """Alarms within languages that a window brings already, while it runs.

        Args:
            window: its number, `step` will take it in as the next.
            signals: of all servers, all that was counted in it so far.

        Raises:
            DataError: as `step`.
        """
        self._check(signals)
        if window <= self._window:
            return []
        if window != self._looked:
            self._looked, self._rung = window, {}
        alarms = [alarm for *_, found in self._weighed(window, signals) for alarm in found]
        for alarm in alarms:
            self._rung.setdefault(alarm.language, []).append(alarm.finding.signal)
        return alarms

    def levels(self) -> dict[str, dict[str, float]]:
        """Language → signal → how far it is to an alarm: 0 is nothing at all, 1 an alarm.

        On the scale of evidence's logarithm; the mix of languages stands under `language`.
        """
        hourly, daily = self._log_threshold(self._budget.windows_a_day), self._log_threshold(1)
        found = {
            name: _levels(bets, self._states[name], daily if name in POOLED else hourly)
            for name, bets in self._bets.items()
        }
        return found | {MIX: _levels(self._mix_bets, self._mix_state, daily)}

    def to_json(self) -> dict[str, Any]:
        """The state, ready for `json.dumps`; a watch read back goes on exactly as this one."""
        return {
            "format": _FORMAT,
            "reference": self._reference.digest,
            "window": self._window,
            "languages": {name: _plain(state) for name, state in self._states.items()},
            "mix": _plain(self._mix_state),
            "looked": self._looked,
            "rung": self._rung,
            "day": self._day,
            "day_rows": dict(sorted(self._day_rows.items())),
            "day_pooled": {name: sketch.to_json() for name, sketch in self._day_pooled.items()},
        }

    @classmethod
    def from_json(
        cls, value: Mapping[str, Any], reference: Reference, budget: Budget | None = None
    ) -> Watch:
        """The reverse.

        Raises:
            DataError: something else, or the state of a watch over another reference.
        """
        try:
            plain = msgspec.convert(value, _Plain)
        except msgspec.ValidationError as fault:
            raise DataError(f"drift state: {fault}") from None
        if plain.format != _FORMAT or plain.reference != reference.digest:
            raise DataError(
                "drift state: it is of another reference or another release",
                hint="start a new watch; evidence gathered so far is lost",
            )
        watch = cls(reference, budget)
        if plain.languages.keys() != watch._bets.keys():
            raise DataError("drift state: its languages are not those of the reference")
        watch._states = {
            name: _restored(bets, plain.languages[name]) for name, bets in watch._bets.items()
        }
        watch._mix_state = _restored(watch._mix_bets, plain.mix)
        watch._window, watch._day, watch._day_rows = plain.window, plain.day, plain.day_rows
        watch._looked, watch._rung = plain.looked, plain.rung
        watch._day_pooled = {
            name: whole_sketch(name, sketch, len(reference.labels))
            for name, sketch in plain.day_pooled.items()
        }
        return watch

    def _check(self, signals: Signals) -> None:
        if (signals.task, signals.labels) != (self._reference.task, self._reference.labels):
            raise DataError(
                f"signals of {signals.task} do not fit the reference of {self._reference.task}",
                hint="count with the labels of the model's own reference",
            )

    def _weighed(self, window: int, signals: Signals) -> Iterator[tuple[str, _State, list[Alarm]]]:
        """Each language that is no bucket: what its next window starts from, and its alarms."""
        threshold = self._log_threshold(self._budget.windows_a_day)
        rung = self._rung if window == self._looked else {}
        for name in sorted(signals.languages.keys() & self._bets.keys() - set(POOLED)):
            bins, before = signals.languages[name].bins, self._states[name]
            state, found = _stepped(
                self._bets[name], before, bins, window, threshold, rung.get(name, ())
            )
            yield name, state, [Alarm("within", name, window, *each) for each in found]

    def _end_day(self, window: int) -> list[Alarm]:
        day, before = window // self._budget.windows_a_day, self._day
        self._day = day
        if day == before or not self._day_rows:
            return []
        first, threshold = before * self._budget.windows_a_day, self._log_threshold(1)
        bins = {MIX: mix_counts(self._day_rows, self._names)}
        self._mix_state, moved = _stepped(self._mix_bets, self._mix_state, bins, first, threshold)
        alarms = [Alarm("mix", finding.event, window, since, finding) for since, finding in moved]
        for name, sketch in sorted(self._day_pooled.items()):
            bets, state = self._bets[name], self._states[name]
            self._states[name], found = _stepped(bets, state, sketch.bins, first, threshold)
            alarms += [Alarm("mix", name, window, since, finding) for since, finding in found]
        self._day_rows, self._day_pooled = {}, {}
        return alarms

    def _add_to_day(self, signals: Signals) -> None:
        for name, sketch in signals.languages.items():
            key = name if name in self._names else self._names[-1]
            self._day_rows[key] = self._day_rows.get(key, 0) + sketch.rows
        for name in signals.languages.keys() & self._bets.keys() & set(POOLED):
            nothing = empty_sketch(len(signals.labels))
            held = self._day_pooled.get(name, nothing)
            self._day_pooled[name] = held + signals.languages[name]

    def _log_threshold(self, windows_a_day: int) -> float:
        streams = self._budget.streams or self.streams
        return math.log(streams * windows_a_day * _DAYS / self._budget.alarms_a_month)


class _PlainState(msgspec.Struct):
    grown: list[float]
    since: list[int]


class _Plain(msgspec.Struct):
    format: int
    reference: str
    window: int
    languages: dict[str, _PlainState]
    mix: _PlainState
    day: int
    day_rows: dict[str, int]
    day_pooled: dict[str, Sketch] = {}
    looked: int = -1
    rung: dict[str, list[str]] = {}


def _fresh(bets: Bets) -> _State:
    return _State(np.zeros(len(bets.event_K)), np.zeros(len(bets.event_K), np.int64))


def _stepped(
    bets: Bets,
    state: _State,
    bins: Mapping[str, list[int]],
    window: int,
    threshold: float,
    rung: Collection[str] = (),
) -> tuple[_State, list[tuple[int, Finding]]]:
    """What the next window starts from; and of signals that alarm, since when, and what tells.

    Signals that have `rung` in this window start from nothing, and do not alarm again.
    """
    log_M_K, since_K = _grow(bets, state, bins, window)
    means_S, found = bets.mean_S(log_M_K), []
    rung_S = np.array([signal in rung for signal in bets.signals], np.bool_)
    over_S = means_S >= threshold
    for signal in np.flatnonzero(over_S & ~rung_S).tolist():
        bet = bets.best(signal, log_M_K)
        found.append((int(since_K[bet]), bets.finding(bet, bins, float(means_S[signal]))))
    alarmed_K = np.repeat(over_S | rung_S, bets.size_S.astype(np.intp))
    return _State(np.where(alarmed_K, 0.0, np.logaddexp(0.0, log_M_K)), since_K), found


def _grow(
    bets: Bets, state: _State, bins: Mapping[str, list[int]], window: int
) -> tuple[Floats, NDArray[np.int64]]:
    """ln M of each bet after a window, and since when it grows."""
    since_K = np.where(state.grown_K < _NO_DOUBT, window, state.since_K)
    return state.grown_K + bets.log_e_K(bins), since_K


def _levels(bets: Bets, state: _State, threshold: float) -> dict[str, float]:
    means_S = bets.mean_S(state.grown_K)
    return {
        name: float(min(1.0, mean / threshold))
        for name, mean in zip(bets.signals, means_S, strict=True)
    }


def _plain(state: _State) -> dict[str, Any]:
    return {"grown": state.grown_K.tolist(), "since": state.since_K.tolist()}


def _restored(bets: Bets, plain: _PlainState) -> _State:
    state = _State(np.array(plain.grown), np.array(plain.since, np.int64))
    right = len(bets.event_K) == len(plain.grown) == len(plain.since)
    if not right or not (np.isfinite(state.grown_K) & (state.grown_K >= 0.0)).all():
        raise DataError("drift state: its evidence is not what a watch writes")
    return state
