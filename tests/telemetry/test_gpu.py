from __future__ import annotations

import sys
from types import SimpleNamespace

from xlmr.telemetry.gpu import gpu_readings, nvml_readings, torch_readings
from xlmr.telemetry.metrics import Metrics


class Nvml:
    """Two devices of which the second does not say how busy it is."""

    class NVMLError(Exception):
        pass

    def __init__(self, devices: int = 2) -> None:
        self.devices = devices

    def nvmlInit(self) -> None:
        if not self.devices:
            raise self.NVMLError("no driver")

    def nvmlDeviceGetCount(self) -> int:
        return self.devices

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(used=1000 + handle, total=4000)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        if handle == 1:
            raise self.NVMLError("not supported")
        return SimpleNamespace(gpu=37)


def test_each_device_says_what_it_can():
    metrics = Metrics()
    metrics.watch_gpus(nvml_readings(Nvml()))
    assert metrics.value("xlmr_gpu_memory_used_bytes", device="1") == 1001
    assert metrics.value("xlmr_gpu_memory_total_bytes") == 8000
    assert metrics.value("xlmr_gpu_utilisation_ratio", device="0") == 0.37
    assert 'utilisation_ratio{device="1"}' not in metrics.export().decode()


def test_without_a_driver_there_is_nothing_to_say():
    metrics = Metrics()
    metrics.watch_gpus(nvml_readings(Nvml(devices=0)))
    assert "xlmr_gpu" not in metrics.export().decode()


def test_without_the_library_torch_tells_the_memory_once_it_is_loaded():
    loaded = []
    metrics = Metrics()
    metrics.watch_gpus(torch_readings(lambda: loaded[0] if loaded else None))
    assert "xlmr_gpu" not in metrics.export().decode()
    cuda = SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 1, mem_get_info=lambda index: (300, 1000)
    )
    loaded.append(SimpleNamespace(cuda=cuda))
    assert metrics.value("xlmr_gpu_memory_used_bytes", device="0") == 700
    assert metrics.value("xlmr_gpu_memory_total_bytes", device="0") == 1000


def test_asking_here_fails_nothing(monkeypatch):
    metrics = Metrics()
    metrics.watch_gpus(gpu_readings())
    metrics.export()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    metrics.watch_gpus(gpu_readings())
    metrics.export()
