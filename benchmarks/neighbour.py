"""What a busy neighbour costs: tokens a second alone, and beside a process that never rests.

A batch may be slower by the share of the processor time it did not get, and by no more: a thread
that loses its core must not make the others wait. The share is the kernel's own account: how long
our threads were ready to run and did not, over all the time they could have run.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xlmr.evaluation.speed.ours import Ours
from xlmr.evaluation.speed.subject import open_subject
from xlmr.evaluation.speed.workloads import batch_of, standard_workloads
from xlmr.types import Batch

ROUNDS = 5
WORKLOADS = ("8x32", "1x16", "mixed")
_NEVER_RESTS = "print(flush=True)\nwhile True: pass"


def measure_neighbour(
    shape: str, *, threads: int, seconds: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Takes turns: alone, beside a free neighbour, beside one that is tied to a processor.

    Args:
        shape: as `xlmr bench engine --shape`.
        threads: of the engine.
        seconds: of one turn.
        tell: called with what is being done.

    Returns:
        `threads`, and `rows`: `workload`, `neighbour` (none, free, tied), `tokens_per_s`, `lost`
        (the share of processor time not got), `kept` (tokens a second for each share got, over the
        same alone: 1 where only the share was lost, less where somebody waited).
    """
    subject = open_subject(shape)
    tied = min(os.sched_getaffinity(0))
    rows: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory(prefix="xlmr-bench-") as scratch,
        _neighbour(set()) as free,
        _neighbour({tied}) as pinned,
    ):
        ours = Ours.open(subject, Path(scratch), precision="int8", threads=threads)
        kinds = {"none": None, "free": free, "tied": pinned}
        for workload in WORKLOADS:
            batch = batch_of(standard_workloads()[workload], subject.config)
            turns: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
            for round_ in range(ROUNDS):
                tell(f"{workload} beside a neighbour: round {round_ + 1} of {ROUNDS}")
                for kind, process in kinds.items():
                    turns[kind].append(_turn(ours, batch, process, threads, seconds))
            rows += _rows(workload, turns)
        ours.close()
    return {"shape": shape, "threads": threads, "rows": rows}


def _rows(workload: str, turns: dict[str, list[tuple[float, float]]]) -> Iterator[dict[str, Any]]:
    """Ratios are taken within a round, then their median."""
    for kind, of_kind in turns.items():
        kept = [
            rate / (1 - lost) / (rate_alone / (1 - lost_alone))
            for (rate, lost), (rate_alone, lost_alone) in zip(of_kind, turns["none"], strict=True)
        ]
        yield {
            "workload": workload,
            "neighbour": kind,
            "tokens_per_s": statistics.median(rate for rate, _ in of_kind),
            "lost": statistics.median(lost for _, lost in of_kind),
            "kept": statistics.median(kept),
        }


def _turn(
    ours: Ours,
    batch: Batch,
    neighbour: subprocess.Popen[str] | None,
    threads: int,
    seconds: float,
) -> tuple[float, float]:
    """Tokens a second, and the share of the threads' time in which they waited for a processor."""
    call = ours.prepare(batch)
    if neighbour is not None:
        neighbour.send_signal(signal.SIGCONT)
    try:
        call()
        waited, began, calls = _waited_s(), time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < seconds:
            call()
            calls += 1
        lost = (_waited_s() - waited) / (passed * threads)
    finally:
        if neighbour is not None:
            neighbour.send_signal(signal.SIGSTOP)
    return calls * len(batch.ids_T) / passed, min(lost, 0.99)


def _waited_s() -> float:
    """Seconds in which a thread of ours was ready to run and did not."""
    files = Path("/proc/self/task").glob("*/schedstat")
    return sum(int(file.read_text(encoding="ascii").split()[1]) for file in files) / 1e9


@contextmanager
def _neighbour(processors: set[int]) -> Iterator[subprocess.Popen[str]]:
    """A process that never rests, stopped until it is wanted; tied to processors, if any."""
    process = subprocess.Popen(
        [sys.executable, "-c", _NEVER_RESTS], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        if processors:
            os.sched_setaffinity(process.pid, processors)
        yield process
    finally:
        process.kill()
        process.communicate()
