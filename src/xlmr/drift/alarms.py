"""Alarms of a watch, and what keeps one that lasts from being told again and again. Pure.

What alarmed starts anew, so a change that goes on alarms every few hours. These are one alarm, that
stays open until nothing of it was heard for long enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import msgspec

from xlmr.drift.bets import Finding
from xlmr.errors import DataError

_DAY = 24


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something changed.

    Attributes:
        kind: `within` a language, or in the `mix` of languages.
        language: in which; of a change of the mix, whose share it is, or which bucket's signal.
        window: in which it was noticed; of the store's alarms windows are hours.
        since: in which it seems to have begun.
        finding: what tells most, with its share in the last window (of the mix: the last day).
        times: how often it was noticed.
        again: in which window it was noticed last; None where only once.
    """

    kind: Literal["within", "mix"]
    language: str
    window: int
    since: int
    finding: Finding
    times: int = 1
    again: int | None = None

    @property
    def last(self) -> int:
        """The window in which it was noticed last."""
        return self.window if self.again is None else self.again

    def open_at(self, window: int) -> bool:
        """Whether it goes on: heard of within a day, or twice the time it took to notice it."""
        return window <= self.last + max(_DAY, 2 * (self.window - self.since))

    def continued_by(self, later: Alarm) -> bool:
        """Whether another is the same change, still there."""
        same = (self.kind, self.language, self.finding.signal)
        other = (later.kind, later.language, later.finding.signal)
        return same == other and self.open_at(later.window)

    def heard_again(self, window: int) -> Alarm:
        """The same, noticed once more."""
        return replace(self, times=self.times + 1, again=window)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Alarm:
        """The reverse.

        Raises:
            DataError: something else.
        """
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError as fault:
            raise DataError(f"drift alarm: {fault}") from None
