"""Contestants take turns on every workload, round after round, and the machine is measured between.

A shared machine drifts by tens of percent within minutes. What is compared is therefore always
measured within one round, and only ratios inside a round are averaged over rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from xlmr.evaluation.speed.contestant import Contestant
from xlmr.evaluation.speed.workloads import Workloads, batch_of
from xlmr.model.config import EncoderConfig

# 1e9 operations a second by kind of number; see `_native.ceiling`.
Rates = Mapping[str, float]

# Repeats within a turn, so that a millisecond's work is not one sample.
_TURN_S = 0.05
# Work longer than this streams its weights from memory each time; it needs no run to warm up.
_WARM_BELOW_S = 0.1
_FEWEST_ROUNDS = 3
# Thread pools spin after their work, some for 200 ms, and would take a core from the next runtime.
_QUIET_STEP_S, _QUIET_WAIT_S = 0.01, 0.5


@dataclass(frozen=True, slots=True)
class Turn:
    """One contestant's turn on one workload, or a look at the ceiling.

    Attributes:
        workload: its name.
        contestant: its name; `ceiling` for the machine itself.
        round: counted from 0, for each workload.
        seconds: median and least of one computation; 0 for the ceiling.
        least: see `seconds`.
        rates: the ceiling; empty for contestants.
        done: share of the whole contest that is over, 0 to 1.
    """

    workload: str
    contestant: str
    round: int
    seconds: float
    least: float
    rates: Rates
    done: float


CEILING = "ceiling"


def wait_until_quiet() -> None:
    """Waits until no thread of this process uses a core, half a second at most."""
    deadline = time.monotonic() + _QUIET_WAIT_S
    used = time.process_time()
    while time.monotonic() < deadline:
        time.sleep(_QUIET_STEP_S)
        before, used = used, time.process_time()
        if used - before < _QUIET_STEP_S / 10:
            return


def hold(
    contestants: Sequence[Contestant],
    workloads: Workloads,
    config: EncoderConfig,
    *,
    seconds: float,
    ceiling: Callable[[], Rates] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    settle: Callable[[], None] = wait_until_quiet,
) -> Iterator[Turn]:
    """Times every contestant on every workload; yields each turn as it ends.

    Args:
        contestants: all loaded.
        workloads: what to compute.
        config: for ids inside the vocabulary.
        seconds: for each workload, all contestants and the waiting together. At least three rounds
            are held, however long they take.
        ceiling: measures the machine, once a round.
        clock: seconds, rising.
        settle: called before each turn; see `wait_until_quiet`.
    """
    for index, (workload, lengths) in enumerate(workloads.items()):
        batch = batch_of(lengths, config)
        calls = {contestant.name: contestant.prepare(batch) for contestant in contestants}
        latest = {name: _timed(call, clock) for name, call in calls.items()}
        began, round_, over = clock(), 0, False
        while not over:
            for name, call in calls.items():
                settle()
                times = _turn(call, latest[name], clock)
                latest[name] = median(times)
                share = _share(clock() - began, seconds, round_)
                done = (index + share) / len(workloads)
                yield Turn(workload, name, round_, latest[name], min(times), {}, done)
            if ceiling is not None:
                settle()
                rates = ceiling()
                share = _share(clock() - began, seconds, round_)
                done = (index + share) / len(workloads)
                yield Turn(workload, CEILING, round_, 0.0, 0.0, rates, done)
            round_ += 1
            over = round_ >= _FEWEST_ROUNDS and clock() - began >= seconds


def _turn(call: Callable[[], object], latest: float, clock: Callable[[], float]) -> list[float]:
    if latest < _WARM_BELOW_S:
        call()  # what ran before has filled the caches with its own weights
    times = [_timed(call, clock)]
    while sum(times) < _TURN_S:
        times.append(_timed(call, clock))
    return times


def _timed(call: Callable[[], object], clock: Callable[[], float]) -> float:
    began = clock()
    call()
    return clock() - began


def _share(passed: float, seconds: float, round_: int) -> float:
    """How much of a workload is over: by time, or by rounds where three take longer."""
    by_time = passed / seconds if seconds > 0 else 1.0
    return min(by_time, (round_ + 1) / _FEWEST_ROUNDS, 1.0)
