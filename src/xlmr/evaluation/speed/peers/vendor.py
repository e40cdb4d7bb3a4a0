"""Imports a peer's package where it is needed, or says how to install it."""

from __future__ import annotations

import importlib
from typing import Any

from xlmr.errors import MissingExtraError


def vendor(module: str) -> Any:
    """A module of another project.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as fault:
        raise MissingExtraError(module.partition(".")[0], extra="peers") from fault
