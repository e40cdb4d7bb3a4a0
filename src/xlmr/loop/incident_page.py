"""An incident's report as one page of HTML: no script, no other file, nothing to fetch. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --faint: #8885; --worse: #c33; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .15rem .6rem; vertical-align: top; }
thead th { border-bottom: 1px solid var(--faint); } .worse { color: var(--worse); }
pre { border: 1px solid var(--faint); padding: .6rem; overflow-x: auto; }
""".strip()


def render(report: Mapping[str, Any]) -> str:
    """The page of what `incident_json` gives."""
    title = f"Incident: {report['model']}, {report['since']} to {report['until']}"
    suggestion = report["suggestion"]
    command = f"<pre>{escape(suggestion['command'])}</pre>" if suggestion["command"] else ""
    sections = [
        _section("What to do", command + _list(suggestion["why"])),
        _section("Languages, before and now", _languages(report["languages"])),
        _section("What went live", _moves(report["moves"])),
        _section("What alarmed", _alerts(report["alerts"]) + _list(report["unknown"])),
        _section("Called wrong, the surest first", _samples(report["disagreeing"])),
        _section("The least sure answers", _samples(report["doubtful"])),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{''.join(sections)}</body>\n</html>\n"
    )


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
        rows.append([escape(each["language"]), *cells, escape(", ".join(changes))])
    heads = ("language", "mean confidence", "withheld", "called right", "labels that moved most")
    return _table(heads, rows)


def _figure(figure: Mapping[str, Any]) -> str:
    said = ["–" if value is None else f"{value:.3f}" for value in (figure["before"], figure["now"])]
    text = f"{' → '.join(said)} ({figure['rows_before']:,}, {figure['rows']:,})"
    return f'<span class="worse">{text}</span>' if figure["worse"] else text


def _moves(moves: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            moment(move["at"]),
            escape(f"{move['action']}: {move['previous'] or 'none'} → {move['version'] or 'none'}"),
            escape(move["actor"]),
            escape(move["reason"]),
        ]
        for move in moves
    ]
    return _table(("when (UTC)", "what", "who", "why"), rows)


def _alerts(alerts: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            escape(alert["source"]),
            escape(alert["name"]),
            f"{moment(alert['since'])} to {moment(alert['until'])}",
            escape(", ".join(f"{name}={value}" for name, value in alert["labels"].items())),
        ]
        for alert in alerts
    ]
    return _table(("by", "what", "when (UTC)", "of"), rows)


def _samples(samples: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            escape(each["id"]),
            escape(each["version"]),
            escape(each["language"]),
            escape(each["label"]),
            escape(each["said"]),
            "–" if each["confidence"] is None else f"{each['confidence']:.3f}",
            escape(each["text"]),
        ]
        for each in samples
    ]
    heads = ("prediction", "version", "language", "answer", "called", "confidence", "redacted text")
    return _table(heads, rows)


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>\n"


def _list(said: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in said)}</ul>" if said else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "<p>Nothing.</p>"
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )
