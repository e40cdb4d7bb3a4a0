"""Where something drifted, as the JSON of `xlmr drift report` says it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xlmr.errors import DataError
from xlmr.moment import read_moment

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """What is known of a drift in a language.

    Attributes:
        language: where.
        since: when it began, in seconds since 1970 UTC; 0 where that is not known.
        signals: what moved, the surest first.
        labels: predicted more often than at release.
        examples: predictions that are typical of what is new.
        lost: answers, of those in the report, that are likely wrong and were not at release; None
            where nobody can tell.
    """

    language: str
    since: float = 0.0
    signals: tuple[str, ...] = ()
    labels: frozenset[str] = frozenset()
    examples: frozenset[str] = frozenset()
    lost: float | None = None


def read_suspicions(report: Any, *, model: str, origin: str) -> tuple[Suspicion, ...]:
    """The languages that drifted; none where nothing did.

    Raises:
        DataError: it is no such report, or one on another model.
    """
    try:
        if report["model"] != model:
            raise DataError(f"{origin}: a report on {report['model']}, not on {model}")
        if report["format"] != _FORMAT:
            raise DataError(
                f"{origin}: format {report['format']}, expected {_FORMAT}",
                hint="another version of xlmr wrote it",
            )
        closer = (report.get("closer") or {}).get("languages", {})
        return tuple(
            _suspicion(said, closer.get(said["language"], {}))
            for said in report["languages"]
            if said["drifted"]
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DataError(
            f"{origin}: no drift report", hint="`xlmr drift report --json` writes one"
        ) from None


def _suspicion(said: Mapping[str, Any], closer: Mapping[str, Any]) -> Suspicion:
    labels = (
        each["bin"].removeprefix("label ")
        for each in said.get("typical", ())
        if each["signal"] == "label"
    )
    grown = (c for c in closer.get("clusters", ()) if c["now"] > c["was"])
    lost = (said.get("accuracy") or {}).get("lost")
    return Suspicion(
        language=said["language"],
        since=_moment(said.get("since")),
        signals=tuple(dict.fromkeys(each["signal"] for each in said.get("moved", ()))),
        labels=frozenset(labels),
        examples=frozenset(id for cluster in grown for id in cluster["typical"]),
        lost=None if lost is None else float(lost),
    )


def _moment(said: str | None) -> float:
    return 0.0 if said is None else read_moment(said).timestamp()
