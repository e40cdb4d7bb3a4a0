"""The gate: evidence × policy → release, or the reasons not to, by language. Pure.

What is missing is a reason. So is what is no number, and what was measured in no language: no
data never passes. A check that should not hold must be waived by name, and the release says so.
Differences, errors and shares are 0 to 1: a point is 0.01.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from xlmr.errors import DataError
from xlmr.evaluation.compare import Comparison

Check = Literal["macro", "language", "calibration", "int8", "latency", "golden"]
CHECKS: tuple[Check, ...] = get_args(Check)
# Sums of decimals miss their value by a few of these: 0.80 - 0.83 is not exactly -0.03.
_DUST = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a model must show.

    Attributes:
        languages: must be covered by every check that goes by language, besides whatever
            languages the evidence itself brings.
        least_rows: of a language's comparison.
        macro_margin: the lower bound of the macro difference to the live version is above minus
            this.
        language_margin: no language is worse than the live version by more than this.
        most_ece: of the macro mean of ECE after calibration.
        int8_margin: int8 scores at most this much below fp32 in every language.
        p95_ms: objective of the latency, in milliseconds; has no default that would fit all.
        waived: checks that are not made.
    """

    languages: tuple[str, ...] = ()
    least_rows: int = 1
    macro_margin: float = 0.01
    language_margin: float = 0.03
    most_ece: float = 0.05
    int8_margin: float = 0.005
    p95_ms: float | None = None
    waived: frozenset[Check] = frozenset()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.waived) - set(CHECKS))
        if unknown:
            raise DataError(
                f"policy: waived: no check is called {unknown[0]}", hint=f"there are {CHECKS}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was measured; None or an empty mapping where nothing was.

    Attributes:
        comparison: with the live version, the candidate being the new side.
        ece: by language, after calibration, on rows the calibration did not see.
        int8_loss: by language: the score in fp32 minus that in int8, on the same rows.
        p95_ms: latency as served, in milliseconds.
        golden_unchanged: golden inputs give the promised answers within their tolerances.
    """

    comparison: Comparison | None = None
    ece: Mapping[str, float] = field(default_factory=dict)
    int8_loss: Mapping[str, float] = field(default_factory=dict)
    p95_ms: float | None = None
    golden_unchanged: bool | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """Why not.

    Attributes:
        check: which one failed.
        language: where; None where it is about all of them.
        found: what was measured; None where nothing usable was.
        limit: what it is held against; None where the check has no number.
        message: the same in a sentence, in points where it is about scores.
    """

    check: Check
    language: str | None
    found: float | None
    limit: float | None
    message: str


@dataclass(frozen=True, slots=True)
class Release:
    """Every check that was made passed; `waived` were not made."""

    passed: tuple[Check, ...]
    waived: tuple[Check, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {"released": True} | asdict(self)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reasons, in the order of `CHECKS`; never empty."""

    reasons: tuple[Reason, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {"released": False} | asdict(self)


def decide(evidence: Evidence, policy: Policy) -> Release | Refusal:
    """Makes every check that is not waived, and gives all reasons at once."""
    checks = {
        "macro": _macro,
        "language": _languages,
        "calibration": _calibration,
        "int8": _int8,
        "latency": _latency,
        "golden": _golden,
    }
    made = tuple(check for check in CHECKS if check not in policy.waived)
    reasons = tuple(reason for check in made for reason in checks[check](evidence, policy))
    if reasons:
        return Refusal(reasons)
    return Release(made, tuple(check for check in CHECKS if check in policy.waived))


def expected_languages(evidence: Evidence, policy: Policy) -> tuple[str, ...]:
    """Every language that any part of the evidence or the policy names, in order."""
    compared = evidence.comparison.languages if evidence.comparison is not None else {}
    return tuple(sorted({*policy.languages, *compared, *evidence.ece, *evidence.int8_loss}))


def _macro(evidence: Evidence, policy: Policy) -> Iterator[Reason]:
    if evidence.comparison is None:
        yield Reason("macro", None, None, None, "there is no comparison with the live version")
        return
    low, limit = evidence.comparison.macro.low, -policy.macro_margin
    if not _number(low):
        yield Reason("macro", None, None, limit, "the macro difference is not a number")
    elif low <= limit:
        said = f"macro: may be {-_points(low)} points worse, fewer than {-_points(limit)} pass"
        yield Reason("macro", None, low, limit, said)


def _languages(evidence: Evidence, policy: Policy) -> Iterator[Reason]:
    compared = evidence.comparison.languages if evidence.comparison is not None else {}
    limit = -policy.language_margin
    languages = expected_languages(evidence, policy)
    if not languages:
        yield Reason("language", None, None, limit, "no language was compared")
    for language in languages:
        found = compared.get(language)
        if found is None or not _number(found.difference):
            said = f"{language}: not compared with the live version"
            yield Reason("language", language, None, limit, said)
            continue
        if found.n < policy.least_rows:
            said = f"{language}: compared on {found.n} rows, at least {policy.least_rows} needed"
            yield Reason("language", language, found.n, policy.least_rows, said)
        if found.difference < limit - _DUST:
            worse = f"{-_points(found.difference)} points worse"
            said = f"{language}: {worse}, at most {-_points(limit)} pass"
            yield Reason("language", language, found.difference, limit, said)


def _calibration(evidence: Evidence, policy: Policy) -> Iterator[Reason]:
    limit = policy.most_ece
    languages = expected_languages(evidence, policy)
    known = {name: error for name, error in evidence.ece.items() if _number(error) and error >= 0}
    missing = [language for language in languages if language not in known]
    for language in missing:
        said = f"{language}: no ECE after calibration"
        yield Reason("calibration", language, None, limit, said)
    if not languages:
        yield Reason("calibration", None, None, limit, "no ECE in any language")
    if not known:
        return
    macro = sum(known.values()) / len(known)
    if macro > limit + _DUST:
        worst = max(known, key=lambda language: (known[language], language))
        said = f"ECE is {macro:.3f} over languages, at most {limit:.3f} pass; worst: {worst}"
        yield Reason("calibration", None, macro, limit, said)


def _int8(evidence: Evidence, policy: Policy) -> Iterator[Reason]:
    limit = policy.int8_margin
    languages = expected_languages(evidence, policy)
    if not languages:
        yield Reason("int8", None, None, limit, "int8 was compared with fp32 in no language")
    for language in languages:
        loss = evidence.int8_loss.get(language)
        if loss is None or not _number(loss):
            said = f"{language}: int8 was not compared with fp32"
            yield Reason("int8", language, None, limit, said)
        elif loss > limit + _DUST:
            said = f"{language}: int8 loses {_points(loss)} points, at most {_points(limit)} pass"
            yield Reason("int8", language, loss, limit, said)


def _latency(evidence: Evidence, policy: Policy) -> Iterator[Reason]:
    found, limit = evidence.p95_ms, policy.p95_ms
    if limit is None or not _number(limit):
        yield Reason("latency", None, None, None, "the policy states no objective for p95 latency")
    elif found is None or not _number(found) or found <= 0.0:
        yield Reason("latency", None, None, limit, "p95 latency was not measured")
    elif found > limit:
        said = f"p95 latency is {found:g} ms, at most {limit:g} pass"
        yield Reason("latency", None, found, limit, said)


def _golden(evidence: Evidence, policy: Policy) -> Iterator[Reason]:
    if evidence.golden_unchanged is None:
        yield Reason("golden", None, None, None, "golden inputs were not tried")
    elif not evidence.golden_unchanged:
        yield Reason("golden", None, None, None, "golden inputs give other answers")


def _number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _points(share: float) -> float:
    return round(share * 100.0, 2)
