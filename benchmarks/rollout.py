"""What a rollout's decisions cost and how often they err, simulated; fills the tables of a page.

    python benchmarks/rollout.py --page docs/rollout.md

Nothing is timed and everything is seeded: the same tables on any machine, in under a minute.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tables import write_tables

from xlmr.registry.rollout.burn import WINDOWS, Window, burn
from xlmr.registry.rollout.eprocess import fewest_on_candidate, log_threshold, tolerant_share
from xlmr.registry.rollout.evidence import CANDIDATE, LIVE, Counts, Evidence, Pairs
from xlmr.registry.rollout.plan import make_plan
from xlmr.registry.rollout.state import State, on_burn, on_verdict, start
from xlmr.registry.rollout.verdict import judge

ALPHA = 0.01
EVENTS = 4000
LOOKS = 40
RUNS = 4000
SHARES = (0.01, 0.05, 0.10, 0.25, 0.50)
HARMS = (1.5, 2.0, 5.0)
NEVER = 1 << 30

# Of the whole rollouts: requests a minute, and who writes them.
PER_MINUTE = 3000
LANGUAGES = {"en": 0.6, "de": 0.3, "sw": 0.1}
ROLLOUTS = 40
MIX = {"complaint": 0.6, "question": 0.3, "praise": 0.1}


def boundary(events: int, share: float) -> NDArray[np.int64]:
    """By number of events, from 1: how many on the candidate are too many."""
    threshold = log_threshold(ALPHA)
    found = [fewest_on_candidate(n, share, threshold) for n in range(1, events + 1)]
    return np.array([NEVER if fewest is None else fewest for fewest in found])


def falls(
    rng: np.random.Generator, events: int, share: float, runs: int = RUNS
) -> NDArray[np.int32]:
    """How many of the first n events fell on the candidate, [runs, events]."""
    hits = rng.random((runs, events), dtype=np.float32) < share
    return np.cumsum(hits, axis=1, dtype=np.int32)


def false_aborts() -> Iterator[str]:
    """Rows: share, ours at 40 looks, ours at every event, a z-test of 5 % at 40 looks."""
    for share in SHARES:
        fallen = falls(np.random.default_rng(1), EVENTS, share)
        over = fallen >= boundary(EVENTS, share)
        seen = np.arange(1, EVENTS + 1)
        z = (fallen - seen * share) / np.sqrt(seen * share * (1.0 - share))
        looks = slice(EVENTS // LOOKS - 1, None, EVENTS // LOOKS)
        rates = (over[:, looks], over, z[:, looks] > 1.645)
        cells = " | ".join(f"{found.any(axis=1).mean() * 100.0:.1f} %" for found in rates)
        yield f"| {share * 100.0:.0f} % | {cells} |"


def medians() -> Iterator[str]:
    """Rows: share, then median harm events until abort, by how many times the harm."""
    for share in SHARES:
        cells = []
        for harm in HARMS:
            events = 12_000 if harm < 2.0 and share < 0.05 else 6000
            fallen = falls(np.random.default_rng(2), events, tolerant_share(share, harm), 1000)
            over = fallen >= boundary(events, share)
            first = np.where(over.any(axis=1), over.argmax(axis=1) + 1, NEVER)
            cells.append(f"{np.median(first):,.0f}")
        yield f"| {share * 100.0:.0f} % | {' | '.join(cells)} |"


@dataclass(frozen=True)
class Behaviour:
    """Of a version: chances by request, and the chance of each label."""

    harms: dict[str, float] = field(default_factory=lambda: {"5xx": 0.001, "over_objective": 0.01})
    only_in: str | None = None
    labels: dict[str, float] = field(default_factory=lambda: MIX)
    disagrees: float = 0.03


LIVE_VERSION = Behaviour()
CANDIDATES = {
    "as good as the live one": Behaviour(),
    "twice as slow: 5 % over the objective instead of 1 %": Behaviour(
        harms={"5xx": 0.001, "over_objective": 0.05}
    ),
    "fails on every fifth request in Swahili": Behaviour(harms={"5xx": 0.2}, only_in="sw"),
    "labels shuffled": Behaviour(
        labels=dict(zip(MIX, (0.1, 0.6, 0.3), strict=True)), disagrees=0.75
    ),
    "not a number on one request in a thousand": Behaviour(
        harms={"5xx": 0.001, "over_objective": 0.01, "non_finite": 0.001}
    ),
}


def counts(rng: np.random.Generator, version: Behaviour, units: int) -> dict[str, Counts]:
    """A minute of a version."""
    found = {}
    for language, share in LANGUAGES.items():
        number = int(rng.poisson(units * share))
        here = version.only_in in (None, language)
        harms = version.harms if here else LIVE_VERSION.harms
        found[language] = Counts(
            units=number,
            events={harm: int(rng.binomial(number, rate)) for harm, rate in harms.items()},
            labels=dict(
                zip(
                    version.labels,
                    rng.multinomial(number, list(version.labels.values())).tolist(),
                    strict=True,
                )
            ),
        )
    return found


def minute(rng: np.random.Generator, state: State, candidate: Behaviour) -> Evidence:
    """What one minute adds to the counts of a stage."""
    stage = state.plan.stages[state.step]
    mine = PER_MINUTE * stage.share
    theirs = mine if stage.shadow else PER_MINUTE - mine
    arms = {
        CANDIDATE: counts(rng, candidate, round(mine)),
        LIVE: counts(rng, LIVE_VERSION, round(theirs)),
    }
    pairs = {}
    if stage.shadow:
        compared = round(mine)
        pairs["en"] = Pairs(
            compared=compared, disagreed=int(rng.binomial(compared, candidate.disagrees))
        )
    return Evidence(arms=arms, pairs=pairs)


def roll(
    rng: np.random.Generator, candidate: Behaviour, *, shadow: bool = True
) -> tuple[str, str, int, int, float]:
    """A whole rollout: phase, stage it ended in, requests the candidate answered, harmed, hours."""
    none = {} if shadow else {"shadow": {"share": 0.0}, "required": []}
    plan = make_plan({"objective_ms": 100.0, "languages": list(LANGUAGES)} | none)
    state, _ = start("router", live="v1", candidate="v2", plan=plan, salt="s", now=0.0)
    now, answered, harmed = 0.0, 0, 0
    evidence = Evidence()
    while state.phase == "running" and now < 86_400.0:
        stage = plan.stages[state.step]
        now += 60.0
        new = minute(rng, state, candidate)
        evidence += new
        if not stage.shadow:
            answered += new.counts(CANDIDATE).units
            harmed += sum(new.counts(CANDIDATE).events.values())
        before = state.step
        state, _ = on_verdict(state, judge(evidence, plan, state.step, state.elapsed_s(now)), now)
        if state.step != before:
            evidence = Evidence()
    ended = "100 %" if state.phase == "watching" else stage.name
    if state.phase == "watching":
        calm = burn(dict.fromkeys(WINDOWS, Window(0, 0)), plan.watch, units=answered)
        state, _ = on_burn(state, calm, now + plan.watch.minutes * 60.0)
    return state.phase, ended, answered, harmed, now / 3600.0


def rollouts(*, shadow: bool = True) -> Iterator[str]:
    """Rows: candidate, how it ended, where, requests it answered, of them harmed, minutes."""
    for name, behaviour in CANDIDATES.items():
        ends = [
            roll(np.random.default_rng(seed), behaviour, shadow=shadow) for seed in range(ROLLOUTS)
        ]
        live = sum(phase == "done" for phase, *_ in ends)
        back = sum(phase == "rolled_back" for phase, *_ in ends)
        stages = [stage for _, stage, *_ in ends]
        stage = max(set(stages), key=stages.count)
        answered, harmed, hours = (
            float(np.median([end[place] for end in ends])) for place in (2, 3, 4)
        )
        yield (
            f"| {name} | {live} | {back} | {stage} | {answered:,.0f} | {harmed:,.0f} "
            f"| {math.ceil(hours * 60)} |"
        )


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "false-aborts": false_aborts,
    "medians": medians,
    "rollouts": rollouts,
    "without-shadow": partial(rollouts, shadow=False),
}


def main() -> None:
    """Writes each table between its two markers; prints them where no page is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, help="whose tables are replaced")
    write_tables(TABLES, parser.parse_args().page)


if __name__ == "__main__":
    main()
