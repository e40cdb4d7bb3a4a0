"""How much memory a process really holds, and how much its group may hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
# The first version of control groups says "no limit" with the largest number of pages.
_NO_LIMIT = 1 << 60


class Group(NamedTuple):
    """Memory of a control group, a container's as a rule.

    Attributes:
        limit: in bytes, beyond which the system kills; 0 for none.
        held: bytes that the system cannot take back; files that are mapped or cached can be.
        kills: processes it has killed for want of memory.
    """

    limit: float = 0.0
    held: float = 0.0
    kills: float = 0.0


def group_memory(root: Path = _CGROUPS) -> Group:
    """Of the group this process is in, seen from inside its container; zeros where there is none.

    Args:
        root: where control groups are mounted, of either version.
    """
    try:
        if (root / "memory.stat").exists():
            limit, stat = (root / "memory.max").read_text(), _table(root / "memory.stat")
            kills = _table(root / "memory.events")["oom_kill"]
            return Group(
                0.0 if "max" in limit else float(limit), stat["anon"] + stat["shmem"], kills
            )
        root /= "memory"
        stat = _table(root / "memory.stat")
        bound = stat["hierarchical_memory_limit"]
        kills = _table(root / "memory.oom_control").get("oom_kill", 0.0)
        # Its "rss" is what belongs to no file.
        held = stat["total_rss"] + stat.get("total_shmem", 0.0)
        return Group(0.0 if bound >= _NO_LIMIT else bound, held, kills)
    except (OSError, KeyError, ValueError):
        return Group()


def _table(path: Path) -> dict[str, float]:
    """A file of lines "name number"."""
    return {name: float(number) for name, number in map(str.split, path.read_text().splitlines())}


def resident_bytes(pid: int | None = None, proc: Path = _PROC) -> float | None:
    """Of a process, this one by default; None where it is gone or the system does not say."""
    try:
        pages = (proc / str(os.getpid() if pid is None else pid) / "statm").read_bytes().split()[1]
    except (OSError, IndexError):
        return None
    return float(int(pages) * os.sysconf("SC_PAGE_SIZE"))
