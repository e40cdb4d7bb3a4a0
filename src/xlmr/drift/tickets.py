"""Looking back over a period: in which languages something changed, most accusations being right.

Pure. All signals of all languages are weighed at once. e-BH (Wang and Ramdas) keeps the share of
false accusations, in expectation, at `rate` at most, whatever the signals have to do with each
other. An alarm wakes somebody, a ticket waits for the morning: it may be less sure.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from xlmr.drift.bets import MIX, Finding, bets_of, bets_on_mix, mix_counts, mix_names
from xlmr.drift.reference import Reference
from xlmr.drift.signals import Signals

_Test = TypeVar("_Test", bound=Hashable)

RATE = 0.1


@dataclass(frozen=True, slots=True)
class Ticket:
    """A change that is worth a look.

    Attributes:
        language: in which; of the mix, whose share it is.
        finding: what tells most; its signal is `language` where the mix changed.
    """

    language: str
    finding: Finding

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return asdict(self)


def tickets(reference: Reference, signals: Signals, *, rate: float = RATE) -> list[Ticket]:
    """What changed in a period, by the counts of all of it; the surest first.

    Args:
        reference: frozen at release.
        signals: of the period, counted with the reference's labels.
        rate: the share of false ones that is put up with.
    """
    found = {
        (name, finding.signal): Ticket(name, finding)
        for name, bets in bets_of(reference).items()
        if name in signals.languages
        for finding in bets.findings(signals.languages[name].bins)
    }
    rows = {name: sketch.rows for name, sketch in signals.languages.items()}
    counts = {MIX: mix_counts(rows, mix_names(reference.mix))}
    for finding in bets_on_mix(reference.mix).findings(counts):
        found[finding.event, MIX] = Ticket(finding.event, finding)
    kept = e_bh({key: ticket.finding.log_e for key, ticket in found.items()}, rate=rate)
    return sorted((found[key] for key in kept), key=lambda ticket: -ticket.finding.log_e)


def e_bh(log_e: Mapping[_Test, float], *, rate: float) -> set[_Test]:
    """Which tests to believe, so that of those at most `rate` are wrong in expectation.

    The k with the largest evidence, of the greatest k whose k-th e-value is tests / (rate · k).

    Raises:
        ValueError: a rate not strictly between 0 and 1.
    """
    if not 0.0 < rate < 1.0:
        raise ValueError(f"a rate must lie between 0 and 1, got {rate}")
    ranked = sorted(log_e, key=lambda test: -log_e[test])
    enough = [
        place
        for place, test in enumerate(ranked, 1)
        if log_e[test] >= math.log(len(ranked) / (rate * place))
    ]
    return set(ranked[: max(enough, default=0)])
