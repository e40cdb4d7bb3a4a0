"""How fast a promoted version uses up what it may harm, over two pairs of windows. Pure.

A burn rate of 1 harms exactly the share of requests that is allowed. Both windows of a pair must
burn: the long one, so that a blip is no reason; the short one, so that what is over is none either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from xlmr.errors import DataError
from xlmr.registry.rollout.plan import Watch

HOUR = 3600
MINUTE = 60
# 144 of 1,000 at 1 % allowed are 14.4 times, whatever doubles say.
_DUST = 1e-9


@dataclass(frozen=True, slots=True)
class Pair:
    """A long and a short window in seconds, and the burn rate both must reach."""

    long_s: int
    short_s: int
    rate: float


PAIRS = (Pair(HOUR, 5 * MINUTE, 14.4), Pair(6 * HOUR, 30 * MINUTE, 6.0))
# Every window that must be counted, in seconds.
WINDOWS = tuple(sorted({window for pair in PAIRS for window in (pair.long_s, pair.short_s)}))


@dataclass(frozen=True, slots=True)
class Window:
    """Units within the last so many seconds, and how many of them suffered any critical harm."""

    units: int
    harmed: int

    def __post_init__(self) -> None:
        if not 0 <= self.harmed <= self.units:
            raise DataError(
                f"window: {self.harmed} harmed of {self.units}", hint="a unit counts once"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """What the windows say.

    Attributes:
        breached: the pair that burns too fast; None where none does.
        rates: burn rate by window in seconds; windows without units have none.
        units: since promotion.
        sentence: for people.
    """

    breached: Pair | None
    rates: Mapping[int, float]
    units: int
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {
            "breached": None if self.breached is None else asdict(self.breached),
            "rates": {str(window): rate for window, rate in self.rates.items()},
            "units": self.units,
            "sentence": self.sentence,
        }


def burn(windows: Mapping[int, Window], watch: Watch, *, units: int) -> Burn:
    """Judges the window after promotion.

    Args:
        windows: by seconds, one for each of `WINDOWS`, counted since promotion at most: what the
            version before did is no reason to go back to it.
        watch: of the plan.
        units: since promotion.

    Raises:
        DataError: a window is missing.
    """
    missing = sorted(set(WINDOWS) - set(windows))
    if missing:
        raise DataError(f"no window of {missing[0]} s was counted", hint=f"count {WINDOWS}")
    rates = {
        seconds: windows[seconds].harmed / windows[seconds].units / watch.allowed
        for seconds in WINDOWS
        if windows[seconds].units
    }
    breached = next(_breaches(windows, rates, watch), None)
    return Burn(breached=breached, rates=rates, units=units, sentence=_say(breached, rates, watch))


def _breaches(
    windows: Mapping[int, Window], rates: Mapping[int, float], watch: Watch
) -> Iterator[Pair]:
    for pair in PAIRS:
        both = (pair.long_s, pair.short_s)
        if all(
            rates.get(seconds, 0.0) >= pair.rate - _DUST
            and windows[seconds].harmed >= watch.least_events
            for seconds in both
        ):
            yield pair


def _say(breached: Pair | None, rates: Mapping[int, float], watch: Watch) -> str:
    allowed = f"the {watch.allowed * 100.0:.3g} % of requests that may be harmed"
    if breached is None:
        fastest = max(rates.values(), default=0.0)
        return f"Watching: at most {fastest:.1f} times {allowed}."
    return (
        f"Back: {rates[breached.long_s]:.1f} times {allowed} over {breached.long_s // MINUTE} min "
        f"and {rates[breached.short_s]:.1f} times over {breached.short_s // MINUTE} min, "
        f"at most {breached.rate:g} pass."
    )
