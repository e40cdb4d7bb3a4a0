"""How much memory a process really holds."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def resident_bytes(pid: int | None = None, proc: Path = _PROC) -> float | None:
    """Of a process, this one by default; None where it is gone or the system does not say."""
    try:
        pages = (proc / str(os.getpid() if pid is None else pid) / "statm").read_bytes().split()[1]
    except (OSError, IndexError):
        return None
    return float(int(pages) * os.sysconf("SC_PAGE_SIZE"))
