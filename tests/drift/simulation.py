"""`benchmarks/drift.py`, imported: the traffic of its tables is that of the tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("drift_benchmark", BENCHMARKS / "drift.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
