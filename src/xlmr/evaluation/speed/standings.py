"""What a contest came to: medians, minima, ratios to the best peer, shares of the ceiling. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from xlmr.evaluation.speed.contest import CEILING, Turn
from xlmr.evaluation.speed.workloads import Workloads


@dataclass(frozen=True, slots=True)
class Score:
    """One contestant on one workload; seconds of one computation.

    Attributes:
        median: over rounds, of the median within a round.
        least: over everything.
        rounds: how many.
        tokens_per_s: real tokens by the median.
    """

    median: float
    least: float
    rounds: int
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """One workload.

    Attributes:
        workload: its name.
        lengths: tokens of each text.
        scores: by contestant, in the order of the contest.
        best_peer: the peer with the least median; None without peers.
        ratio: tokens a second, ours over the best peer's: the median over rounds of the ratio
            within a round. Above 1 we are faster. None without peers.
        ceiling: 1e9 operations a second, median over rounds, by kind.
        ceiling_share: operations we computed for real tokens over what the machine could have
            done in that time, median over rounds of the share within a round; None where the
            ceiling of our number format is unknown.
    """

    workload: str
    lengths: tuple[int, ...]
    scores: Mapping[str, Score]
    best_peer: str | None
    ratio: float | None
    ceiling: Mapping[str, float]
    ceiling_share: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; times in seconds."""
        return {
            "lengths": list(self.lengths),
            "tokens": sum(self.lengths),
            "runtimes": {
                name: {
                    "median_s": score.median,
                    "min_s": score.least,
                    "rounds": score.rounds,
                    "tokens_per_s": score.tokens_per_s,
                }
                for name, score in self.scores.items()
            },
            "best_peer": self.best_peer,
            "ratio_to_best_peer": self.ratio,
            "ceiling_gops": dict(self.ceiling),
            "ceiling_share": self.ceiling_share,
        }


def standings(
    turns: Sequence[Turn],
    workloads: Workloads,
    *,
    ours: str,
    precision: str,
    operations_per_token: int,
) -> list[Standing]:
    """Sums up a contest, workload by workload, in their order.

    Args:
        turns: all of them, in order.
        workloads: as they were timed.
        ours: the name of our contestant.
        precision: the kind of ceiling that ours is held against.
        operations_per_token: a multiply-add counted as two.
    """
    found = []
    for workload, lengths in workloads.items():
        here = [turn for turn in turns if turn.workload == workload]
        found.append(_standing(here, workload, lengths, ours, precision, operations_per_token))
    return found


def _standing(
    turns: Sequence[Turn],
    workload: str,
    lengths: tuple[int, ...],
    ours: str,
    precision: str,
    operations_per_token: int,
) -> Standing:
    tokens = sum(lengths)
    rounds: dict[str, list[float]] = {}
    least: dict[str, float] = {}
    ceilings = [turn.rates for turn in turns if turn.contestant == CEILING]
    for turn in turns:
        if turn.contestant != CEILING:
            rounds.setdefault(turn.contestant, []).append(turn.seconds)
            least[turn.contestant] = min(turn.least, least.get(turn.contestant, turn.least))
    medians = {name: median(times) for name, times in rounds.items()}
    scores = {
        name: Score(medians[name], least[name], len(times), tokens / medians[name])
        for name, times in rounds.items()
    }
    peers = {name: seconds for name, seconds in medians.items() if name != ours}
    best = min(peers, key=peers.__getitem__) if peers else None
    ratio = None
    if best is not None:
        pairs = zip(rounds[ours], rounds[best], strict=True)
        ratio = median(theirs / mine for mine, theirs in pairs)
    kinds = sorted({kind for rates in ceilings for kind in rates})
    ceiling = {kind: median(rates[kind] for rates in ceilings) for kind in kinds}
    share = None
    if precision in ceiling:
        work = tokens * operations_per_token / 1e9
        held = zip(rounds[ours], ceilings, strict=True)
        share = median(work / mine / rates[precision] for mine, rates in held)
    return Standing(workload, lengths, scores, best, ratio, ceiling, share)
