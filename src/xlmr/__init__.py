"""XLM-RoBERTa in production: import, train, prove, serve.

    import xlmr
    router = xlmr.load("models/router")
    router.classify(["Wo bleibt mein Paket?"])[0].label

Names resolve on first use, so `import xlmr` costs the standard library only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xlmr.model.predictor import Predictor as Predictor
    from xlmr.model.predictor import load as load
    from xlmr.settings import Settings as Settings

__version__ = "0.1.0"

_HOMES = {
    "load": "xlmr.model.predictor",
    "Predictor": "xlmr.model.predictor",
    "Settings": "xlmr.settings",
    "XlmrError": "xlmr.errors",
}
__all__ = ["Predictor", "Settings", "XlmrError", "__version__", "load"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'xlmr' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
