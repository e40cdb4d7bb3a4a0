"""What GPUs say of themselves, at each scrape: by NVIDIA's management library, or by torch.

Without `nvidia-ml-py` torch tells the memory of the device it computes on, and nobody tells how
busy it is. A device that does not answer is left out; it never fails a scrape.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from xlmr.telemetry.registry import Asked

Readings = Mapping[str, Callable[[], Asked]]

_USED, _TOTAL = "xlmr_gpu_memory_used_bytes", "xlmr_gpu_memory_total_bytes"
_UTILISATION = "xlmr_gpu_utilisation_ratio"


def gpu_readings() -> Readings:
    """A source for each GPU metric that can be known here; nothing where there is no GPU."""
    try:
        import pynvml
    except ImportError:
        return torch_readings(lambda: sys.modules.get("torch"))
    return nvml_readings(pynvml)


def nvml_readings(nvml: Any) -> Readings:
    """By the module `pynvml`; devices by their number."""
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:
        return {}
    if not handles:
        return {}

    def each(read: Callable[[Any], float]) -> Callable[[], Asked]:
        def ask() -> Iterator[tuple[tuple[str, ...], float]]:
            for index, handle in enumerate(handles):
                try:
                    yield (str(index),), float(read(handle))
                except nvml.NVMLError:
                    # Lost, or a slice of a device, which has no utilisation of its own.
                    continue

        return lambda: dict(ask())

    return {
        _USED: each(lambda handle: nvml.nvmlDeviceGetMemoryInfo(handle).used),
        _TOTAL: each(lambda handle: nvml.nvmlDeviceGetMemoryInfo(handle).total),
        _UTILISATION: each(lambda handle: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100),
    }


def torch_readings(torch_module: Callable[[], Any]) -> Readings:
    """By torch, once somebody has loaded it: only for this it would take seconds and gigabytes."""

    def memory() -> dict[tuple[str, ...], tuple[int, int]]:
        torch = torch_module()
        if torch is None or not torch.cuda.is_available():
            return {}
        return {
            (str(index),): torch.cuda.mem_get_info(index)
            for index in range(torch.cuda.device_count())
        }

    return {
        _USED: lambda: {device: float(all - free) for device, (free, all) in memory().items()},
        _TOTAL: lambda: {device: float(all) for device, (_, all) in memory().items()},
    }
