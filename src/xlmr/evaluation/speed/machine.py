"""Where and with what a figure was measured; a figure without these says nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from xlmr.model.runtimes import _native
from xlmr.model.runtimes.processors import usable_processors


def describe_machine(processor_file: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """Processor, cores, instruction sets and memory of this machine; no name and no address."""
    return {
        "processor": _processor(processor_file),
        "cores": os.cpu_count(),
        "usable_cores": usable_processors(),
        "instruction_sets": _native.instruction_sets(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor(processor_file: Path) -> str:
    try:
        lines = processor_file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    return round(size / 2**30, 1)
