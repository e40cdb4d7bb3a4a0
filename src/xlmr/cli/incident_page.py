"""An incident's report as one page of HTML: no script, no other file, nothing to fetch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from xlmr.evaluation.page import section, table, whole_page

_NONE = "–"


def render(report: Mapping[str, Any]) -> str:
    """The page of what `incident_json` gives."""
    suggestion = report["suggestion"]
    command = f"<pre>{escape(suggestion['command'])}</pre>" if suggestion["command"] else ""
    sections = [
        section("What to do", command + _list(suggestion["why"])),
        section("Languages, before and now", _languages(report["languages"])),
        section("What went live", _moves(report["moves"])),
        section("What alarmed", _alerts(report["alerts"]) + _list(report["unknown"])),
        section("Called wrong, the surest first", _samples(report["disagreeing"])),
        section("Answered otherwise in the shadow", _shadow(report["shadow"])),
        section("The least sure answers", _samples(report["doubtful"])),
    ]
    period = f"{report['since']} to {report['until']}"
    return whole_page(f"{report['model']}, {period}", "incident", sections)


def moment(at: float) -> str:
    """In UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _languages(languages: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for each in languages:
        cells = [_figure(each[name]) for name in ("confidence", "abstained", "right")]
        changes = [
            f"{label} {was:.2f} → {now:.2f}"
            for label, (was, now) in list(each["labels"].items())[:3]
        ]
        rows.append((each["language"], ", ".join(each["worse"]), *cells, ", ".join(changes)))
    heads = ("language", "worse", "mean confidence", "withheld", "called right")
    return _table((*heads, "labels that moved most"), rows)


def _figure(figure: Mapping[str, Any]) -> str:
    was, now = (_number(figure[name]) for name in ("before", "now"))
    return f"{was} → {now} ({figure['rows_before']:,}, {figure['rows']:,})"


def _moves(moves: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            moment(move["at"]),
            f"{move['action']}: {move['previous'] or 'none'} → {move['version'] or 'none'}",
            move["actor"],
            move["reason"],
        )
        for move in moves
    ]
    return _table(("when (UTC)", "what", "who", "why"), rows)


def _alerts(alerts: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            alert["source"],
            alert["name"],
            f"{moment(alert['since'])} to {moment(alert['until'])}",
            ", ".join(f"{name}={value}" for name, value in alert["labels"].items()),
        )
        for alert in alerts
    ]
    return _table(("by", "what", "when (UTC)", "of"), rows)


def _shadow(shadow: Mapping[str, Any]) -> str:
    counts = [
        (each["language"], f"{each['compared']:,}", f"{each['disagreed']:,}")
        for each in shadow["stage"]
    ]
    kept = [(language, f"{count:,}") for language, count in shadow["languages"].items()]
    return (
        (_table(("language", "compared in this stage", "otherwise"), counts) if counts else "")
        + _table(("language", "otherwise in the window"), kept)
        + _samples(shadow["samples"])
    )


def _samples(samples: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            each["id"],
            each["version"],
            each["language"],
            each["label"],
            each["said"] or each["other"],
            _number(each["confidence"]),
            each["text"],
        )
        for each in samples
    ]
    heads = ("prediction", "version", "language", "answer", "else", "confidence", "redacted text")
    return _table(heads, rows)


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


def _list(said: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in said)}</ul>" if said else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table(heads, rows) if rows else "<p>Nothing.</p>"
