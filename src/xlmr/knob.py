"""One knob: a setting's variable, its help and its bounds, and how what was given is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from xlmr.errors import SettingsError


def knob(
    default: Any,
    variable: str,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: int | None = None,
    secret: bool = False,
) -> Any:
    """Declares a field together with its environment variable, its help and its bounds.

    What is `secret` is not shown where settings are printed.
    """
    metadata = {
        "variable": variable,
        "help": help,
        "choices": choices,
        "minimum": minimum,
        "maximum": maximum,
    }
    return field(default=default, metadata=metadata, repr=not secret)


def parse(given: Any, default: Any, metadata: Mapping[str, Any]) -> Any:
    """What was given for a knob, of its default's kind.

    Raises:
        SettingsError: it is not of that kind, not among the choices, or outside the bounds.
    """
    variable = metadata["variable"]
    if isinstance(default, int | float):
        try:
            value: Any = type(default)(given)
        except (TypeError, ValueError):
            kind = "whole number" if isinstance(default, int) else "number"
            raise SettingsError(
                f"{variable}={given!r}: expected a {kind}",
                hint=f"for example {variable}={default}",
            ) from None
        least, most = metadata["minimum"], metadata["maximum"]
        # Written so that what is not a number (`nan`) is none either.
        if least is not None and not value >= least:
            raise SettingsError(f"{variable}={value}: expected at least {least}")
        if most is not None and not value <= most:
            raise SettingsError(f"{variable}={value}: expected at most {most}")
        return value
    if isinstance(default, Path):
        return Path(given)
    if metadata["choices"] and given not in metadata["choices"]:
        raise SettingsError(
            f"{variable}={given!r}: expected one of {', '.join(metadata['choices'])}"
        )
    return str(given)
