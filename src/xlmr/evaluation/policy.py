"""A gate's policy as a file: one section for each check, by name; what is not said stays as it is.

    languages = ["de", "sw"]
    waive = ["latency"]

    [macro]
    margin = 0.01           # worse than the live version, at most, with 95 % confidence
    [language]
    margin = 0.03           # worse than the live version, in any language
    least_rows = 100
    [calibration]
    most_ece = 0.05
    [int8]
    margin = 0.005
    [latency]
    p95_ms = 20.0

Shares are 0 to 1: a point is 0.01. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from xlmr.errors import SettingsError
from xlmr.evaluation.gate import CHECKS, Check, Policy

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
_DEFAULT = Policy()


class _Macro(Struct, frozen=True, forbid_unknown_fields=True):
    margin: Share = _DEFAULT.macro_margin


class _Language(Struct, frozen=True, forbid_unknown_fields=True):
    margin: Share = _DEFAULT.language_margin
    least_rows: Annotated[int, Meta(ge=1)] = _DEFAULT.least_rows


class _Calibration(Struct, frozen=True, forbid_unknown_fields=True):
    most_ece: Share = _DEFAULT.most_ece


class _Int8(Struct, frozen=True, forbid_unknown_fields=True):
    margin: Share = _DEFAULT.int8_margin


class _Latency(Struct, frozen=True, forbid_unknown_fields=True):
    p95_ms: Annotated[float, Meta(gt=0.0)] | None = None


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    languages: tuple[str, ...] = ()
    waive: tuple[Check, ...] = ()
    macro: _Macro = _Macro()
    language: _Language = _Language()
    calibration: _Calibration = _Calibration()
    int8: _Int8 = _Int8()
    latency: _Latency = _Latency()


def make_policy(
    values: Mapping[str, Any],
    *,
    origin: str = "policy",
    waived: Iterable[Check] = (),
    p95_ms: float | None = None,
) -> Policy:
    """Checks the values of a policy.

    Args:
        values: of the file; empty for the default policy.
        origin: where they are from, for errors.
        waived: checks to waive besides.
        p95_ms: wins over the file's.

    Raises:
        SettingsError: an unknown key, or a value that cannot be; names the key.
    """
    try:
        read = msgspec.convert(values, _File)
    except msgspec.ValidationError as fault:
        raise SettingsError(
            f"{origin}: {str(fault).replace('`$.', '`')}",
            hint=f"sections are languages, waive and {', '.join(CHECKS[:-1])}",
        ) from None
    return Policy(
        languages=read.languages,
        least_rows=read.language.least_rows,
        macro_margin=read.macro.margin,
        language_margin=read.language.margin,
        most_ece=read.calibration.most_ece,
        int8_margin=read.int8.margin,
        p95_ms=read.latency.p95_ms if p95_ms is None else p95_ms,
        waived=frozenset({*read.waive, *waived}),
    )
