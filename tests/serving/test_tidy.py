"""What a model left behind is gone a moment after it went."""

from __future__ import annotations

import gc
import time
import weakref
from pathlib import Path

from xlmr.serving import tidy
from xlmr.serving.pool import Pool
from xlmr.serving.versions import Order
from xlmr.settings import Settings
from xlmr.telemetry.metrics import Metrics

SECONDS = 60


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
