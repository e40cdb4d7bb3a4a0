"""How many threads this process may really use.

A container often sees every core of its host and owns two of them; threads beyond that share are
throttled and make each other wait.
"""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_processors(cgroup_root: Path = Path("/sys/fs/cgroup")) -> int:
    """The smaller of the affinity mask and the cgroup's quota, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    quota = _quota_v2(cgroup_root) or _quota_v1(cgroup_root / "cpu")
    if quota is not None:
        # Half a processor still needs one thread; 2.5 are better used by three than by two.
        processors = min(processors, math.ceil(quota))
    return max(1, processors)


def _quota_v2(directory: Path) -> float | None:
    """Processors that `cpu.max` ("QUOTA PERIOD" or "max PERIOD") grants; None for no limit."""
    try:
        quota, period = (directory / "cpu.max").read_text().split()
        return int(quota) / int(period) if quota != "max" else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(directory: Path) -> float | None:
    """The same from the older pair of files; a quota of -1 is no limit."""
    try:
        quota = int((directory / "cpu.cfs_quota_us").read_text())
        period = int((directory / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
