"""What a model left behind is gone a moment after it went."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import weakref
from pathlib import Path

from xlmr.serving import tidy
from xlmr.serving.pool import Pool
from xlmr.serving.versions import Order
from xlmr.settings import Settings
from xlmr.telemetry.metrics import Metrics

SECONDS = 60

# How many of glibc's arenas there are when six threads have taken memory at once.
_ARENAS = """
import ctypes, sys, tempfile, threading
from xlmr.serving.tidy import keep_memory_together
if sys.argv[1] == "y":
    keep_memory_together()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(6)
def take():
    together.wait()
    for _ in range(100):
        libc.malloc(10_000)
    together.wait()
threads = [threading.Thread(target=take) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with tempfile.NamedTemporaryFile() as file:
    libc.fopen.restype = ctypes.c_void_p
    libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.fclose.argtypes = [ctypes.c_void_p]
    told = libc.fopen(file.name.encode(), b"w")
    libc.malloc_info(0, told)
    libc.fclose(told)
    print(open(file.name).read().count("<heap nr="))
"""


def test_a_version_that_was_unloaded_is_gone(models: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tidy, "_AFTER_S", 0.05)
    pool = Pool(Settings(runtime="reference", cache_dir=tmp_path), Metrics())
    gc.disable()
    try:
        served = pool.load(Order(directory=models / "router", name="router", version="1"))
        left = weakref.ref(served.predictor)
        del served
        pool.unload("router", "1")
        deadline = time.monotonic() + SECONDS
        while left() is not None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        gc.enable()
        pool.close()


def test_what_is_there_is_not_looked_through_again() -> None:
    thresholds = gc.get_threshold()
    try:
        tidy.collect_seldom()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] >= 10_000
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


def test_threads_share_the_places_they_take_memory_from() -> None:
    # In a process of its own: arenas that are there already stay.
    grown = [int(subprocess.check_output([sys.executable, "-c", _ARENAS, kept])) for kept in "yn"]
    assert grown[0] <= 2 < grown[1]
