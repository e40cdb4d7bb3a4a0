"""A whole benchmark run: who takes part, the contest, and a result that says where it is from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from xlmr.errors import EngineError, MissingExtraError, ModelRefusedError
from xlmr.evaluation.speed.contest import Turn, hold
from xlmr.evaluation.speed.contestant import Contestant
from xlmr.evaluation.speed.machine import describe_machine
from xlmr.evaluation.speed.ours import Ours
from xlmr.evaluation.speed.peers import Peer, check_parity, open_peer
from xlmr.evaluation.speed.standings import Standing, standings
from xlmr.evaluation.speed.subject import Subject
from xlmr.evaluation.speed.workloads import Workloads
from xlmr.model.runtimes import _native

# Not installed, not made for this model, not what it was, or broken by a version we do not know: a
# peer that cannot take part must not end the run of the others.
_PEER_FAULTS = (
    *(MissingExtraError, ModelRefusedError, EngineError),
    *(RuntimeError, ValueError, AttributeError, TypeError),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to time.

    Attributes:
        subject: the model.
        precision: ours: `int8`, `bf16` or `fp32`.
        threads: of every runtime.
        workloads: batches to compute.
        seconds: for each workload; see `contest.hold`.
        isa: our kernels; `auto` picks the best the processor has.
        peers: who else takes part.
    """

    subject: Subject
    precision: str
    threads: int
    workloads: Workloads
    seconds: float
    isa: str = "auto"
    peers: Sequence[Peer] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a plan.

    Attributes:
        plan: it.
        ours: name of our contestant.
        standings: workload by workload.
        versions: of each runtime, by contestant.
        cosines: of each peer to our reference on a tiny model.
        skipped: peers that took no part, and why.
        date: when it ended, UTC.
        machine: where.
    """

    plan: Plan
    ours: str
    standings: Sequence[Standing]
    versions: dict[str, str]
    cosines: dict[str, float]
    skipped: dict[str, str]
    date: datetime
    machine: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {
            "shape": self.plan.subject.name,
            "precision": self.plan.precision,
            "threads": self.plan.threads,
            "operations_per_token": self.plan.subject.config.operations_per_token,
            "ours": self.ours,
            "date": self.date.isoformat(timespec="seconds"),
            "machine": self.machine,
            "versions": self.versions,
            "parity_cosines": self.cosines,
            "skipped": self.skipped,
            "workloads": {one.workload: one.to_json() for one in self.standings},
        }


def run(
    plan: Plan,
    *,
    on_turn: Callable[[Turn], None] = lambda turn: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Result:
    """Loads everyone, holds the contest, sums up.

    Args:
        plan: what to time.
        on_turn: told of every turn.
        on_note: told, in words, what is being loaded and who is skipped.

    Raises:
        XlmrError: our own engine cannot open the subject.
    """
    cosines: dict[str, float] = {}
    skipped: dict[str, str] = {}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xlmr-bench-")))
        ours = _open_ours(plan, scratch, stack)
        contestants: list[Contestant] = [ours]
        for peer in plan.peers:
            on_note(f"loading {peer.name}")
            try:
                cosines[peer.name] = check_parity(peer, threads=plan.threads)
                opened = open_peer(peer, plan.subject, threads=plan.threads)
                contestants.append(stack.enter_context(opened))
            except _PEER_FAULTS as fault:
                skipped[peer.name] = getattr(fault, "message", None) or _first_line(fault)
                on_note(f"{peer.name} takes no part: {skipped[peer.name]}")
        turns = []
        for turn in _hold(plan, contestants, ours):
            turns.append(turn)
            on_turn(turn)
        found = standings(
            turns,
            plan.workloads,
            ours=ours.name,
            precision=plan.precision,
            operations_per_token=plan.subject.config.operations_per_token,
        )
        versions = {contestant.name: contestant.version for contestant in contestants}
    return Result(
        plan=plan,
        ours=ours.name,
        standings=found,
        versions=versions,
        cosines=cosines,
        skipped=skipped,
        date=datetime.now(UTC),
        machine=describe_machine() | {"kernels": ours.isa},
    )


def time_ours(
    plan: Plan, *, on_turn: Callable[[Turn], None] = lambda turn: None
) -> dict[str, float]:
    """Median seconds of each workload, our engine alone.

    Raises:
        XlmrError: our engine cannot open the subject.
    """
    times: dict[str, list[float]] = {name: [] for name in plan.workloads}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xlmr-bench-")))
        ours = _open_ours(plan, scratch, stack)
        config = plan.subject.config
        for turn in hold([ours], plan.workloads, config, seconds=plan.seconds):
            times[turn.workload].append(turn.seconds)
            on_turn(turn)
    return {name: median(values) for name, values in times.items()}


def _first_line(fault: Exception) -> str:
    return f"{type(fault).__name__}: {str(fault).strip().partition(chr(10))[0]}"


def _open_ours(plan: Plan, scratch: Path, stack: ExitStack) -> Ours:
    ours = Ours.open(
        plan.subject, scratch, precision=plan.precision, threads=plan.threads, isa=plan.isa
    )
    stack.callback(ours.close)
    return ours


def _hold(plan: Plan, contestants: Sequence[Contestant], ours: Ours) -> Iterator[Turn]:
    return hold(
        contestants,
        plan.workloads,
        plan.subject.config,
        seconds=plan.seconds,
        ceiling=partial(_native.ceiling, plan.threads, ours.isa),
    )
