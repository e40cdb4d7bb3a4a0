"""JSON files of a model directory, read with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xlmr.errors import ModelNotFoundError, ModelRefusedError


def read_json(path: Path) -> Any:
    """A parsed JSON file.

    Raises:
        ModelNotFoundError: no such file.
        ModelRefusedError: not JSON; names the line.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelNotFoundError(
            f"{path.parent}: no {path.name}", hint="`xlmr import` makes a complete model directory"
        ) from None
    except json.JSONDecodeError as fault:
        where = f"line {fault.lineno}, column {fault.colno}"
        raise ModelRefusedError(f"not JSON at {where}: {fault.msg}", field=path.name) from fault
    except (OSError, UnicodeDecodeError, RecursionError) as fault:
        raise ModelRefusedError(f"cannot be read: {fault}", field=path.name) from fault


def read_object(path: Path) -> dict[str, Any]:
    """A parsed JSON file that holds an object.

    Raises:
        ModelNotFoundError: no such file.
        ModelRefusedError: not JSON, or not an object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise ModelRefusedError(f"expected an object, got {type(value).__name__}", field=path.name)
    return value


def read_optional_object(path: Path) -> dict[str, Any] | None:
    """As `read_object`; None where there is no such file."""
    return read_object(path) if path.exists() else None
