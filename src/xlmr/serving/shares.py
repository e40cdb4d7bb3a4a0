"""How the processors are shared out among workers.

A worker's threads meet at the end of every piece of work, so they should stand close together: no
worker spans two memory nodes if it need not, and the two threads of one core stay in one worker. A
cgroup's quota bounds how many threads there are, not on which processors they run: many containers
share those, and the scheduler knows better which are idle.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xlmr.model.runtimes.processors import usable_processors

_SYSTEM = Path("/sys/devices/system")


@dataclass(frozen=True, slots=True)
class Share:
    """A worker's processors, and how many threads it may have.

    Attributes:
        processors: to which it is bound; empty where the system cannot bind.
    """

    processors: tuple[int, ...]
    threads: int


def share_out(
    workers: int,
    *,
    threads: int = 0,
    processors: Iterable[int] | None = None,
    usable: int | None = None,
    system: Path = _SYSTEM,
) -> list[Share]:
    """One share for each worker.

    Args:
        workers: how many; at least 1.
        threads: of each worker; 0 shares out what is usable, at least one each.
        processors: that may be used; None for the affinity mask.
        usable: how many of them the cgroup grants; None asks it.
        system: where the system describes processors and nodes.
    """
    if processors is None:
        can_bind = hasattr(os, "sched_getaffinity")
        processors = os.sched_getaffinity(0) if can_bind else ()
    granted = usable_processors() if usable is None else usable
    close_together = sorted(processors, key=_neighbourhood(system))
    shares = []
    for worker in range(workers):
        part = _part(close_together, worker, workers) or tuple(close_together)
        fair = granted // workers + (worker < granted % workers)
        shares.append(Share(part, threads or max(1, min(fair, len(part) or fair))))
    return shares


def _part(processors: list[int], worker: int, workers: int) -> tuple[int, ...]:
    first = len(processors) * worker // workers
    return tuple(processors[first : len(processors) * (worker + 1) // workers])


def _neighbourhood(system: Path) -> _Neighbourhood:
    nodes: dict[int, int] = {}
    for directory in sorted((system / "node").glob("node[0-9]*")):
        for processor in _listed(directory / "cpulist"):
            nodes[processor] = int(directory.name.removeprefix("node"))
    return _Neighbourhood(system, nodes)


@dataclass(frozen=True, slots=True)
class _Neighbourhood:
    """A processor's place: its node, its core (named by the core's first processor), itself."""

    system: Path
    nodes: dict[int, int]

    def __call__(self, processor: int) -> tuple[int, int, int]:
        siblings = self.system / f"cpu/cpu{processor}/topology/thread_siblings_list"
        return self.nodes.get(processor, 0), min(_listed(siblings), default=processor), processor


def _listed(file: Path) -> list[int]:
    """The numbers of `0-3,8,10-11`; none where there is no such file."""
    try:
        text = file.read_text(encoding="ascii").strip()
        found: list[int] = []
        for part in filter(None, text.split(",")):
            first, _, last = part.partition("-")
            found.extend(range(int(first), int(last or first) + 1))
        return found
    except (OSError, ValueError):
        return []
