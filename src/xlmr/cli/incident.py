"""`xlmr incident`: what happened in a window, in one report, and whether to go back."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from xlmr.cli.drift_place import opened_drift
from xlmr.cli.feedback_place import opened, write_out
from xlmr.cli.incident_page import moment, render
from xlmr.cli.moments import moment_us
from xlmr.cli.registry_place import place_options, settings_of
from xlmr.cli.rollout_place import opened_controller
from xlmr.errors import SettingsError, XlmrError
from xlmr.feedback.disagreements import disagreements_among
from xlmr.feedback.labels import settle
from xlmr.feedback.store import Store, batches, microseconds
from xlmr.loop.incident import (
    Alert,
    Gathered,
    Language,
    Move,
    Read,
    Sample,
    Suggestion,
    incident_json,
    suggest,
)
from xlmr.registry.journal import MOVES
from xlmr.registry.names import LIVE
from xlmr.registry.rollout.controller import Controller
from xlmr.settings import Settings

_MOST_BYTES = 16 * 1024 * 1024
_MOST_POINTS = 5000
_STEP_S = 15.0
_WAIT_S = 10.0
# What the names of `xlmr levels`' alerts begin with.
_OURS = "Xlmr"


@click.command("incident")
@click.argument("name")
@click.option("--since", required=True, metavar="TIME", help="When it began (ISO 8601).")
@click.option("--until", metavar="TIME", help="When it ended.  [now]")
@click.option("--version", default="", help="Only what this version answered since.  [all]")
@click.option(
    "--samples", type=click.IntRange(min=0), default=20, show_default=True, help="Of each kind."
)
@click.option(
    "--html",
    "html_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report as a page.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write it as JSON; - for stdout.")
@place_options("feedback", "drift", "prometheus", "redis_url")
def incident_command(
    name: str,
    since: str,
    until: str | None,
    version: str,
    samples: int,
    html_path: Path | None,
    json_path: str | None,
    **place: Any,
) -> None:
    """Gather what happened to NAME in a window, and suggest what to do.

    \b
      xlmr incident router --since 2024-03-05T14:00Z --html incident.html

    Answers in the window are held against those of as long a time before it, language by language:
    confidence, labels, answers withheld, what people call right. Beside them stand what went live
    (the registry's journal), what alarmed (the drift store, and Prometheus where one is named), and
    the answers worth reading: by id, and with their text only where the policy kept it.
    """
    until_us = moment_us(until) if until else microseconds()
    since_us = moment_us(since)
    if since_us >= until_us:
        raise SettingsError("the window ends before it begins", hint="--since before --until")
    before_us = 2 * since_us - until_us
    settings = settings_of(place)
    unknown: list[str] = []
    gathered = Gathered(most=samples)
    with opened(place) as store:
        for period, start, end in (("before", before_us, since_us), ("now", since_us, until_us)):
            wanted = version if period == "now" else ""
            for sample in _samples(store, name, wanted, start, end):
                gathered.see(sample, "before" if period == "before" else "now")
    alerts = [*_drift(settings, name, since_us, until_us, unknown)]
    alerts += _firing(settings.prometheus, name, since_us / 1e6, until_us / 1e6, unknown)
    with opened_controller(place) as controller:
        moves = _moves(controller, name, before_us, until_us)
        reads = list(_reads(controller, name, unknown))
        languages = gathered.languages()
        suggestion = suggest(
            name, since=since_us / 1e6, moves=moves, languages=languages, alerts=alerts,
            **_standing(controller, name),
        )  # fmt: skip
    report = incident_json(
        gathered,
        suggestion,
        moves=moves,
        alerts=alerts,
        unknown=unknown,
        reads=reads,
        model=name,
        version=version,
        since=moment(since_us / 1e6),
        until=moment(until_us / 1e6),
    )
    if html_path is not None:
        write_out(html_path, render(report))
    if json_path == "-":
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    if json_path is not None:
        write_out(Path(json_path), json.dumps(report, indent=2, ensure_ascii=False))
    click.echo(_in_words(gathered, languages, moves, alerts, unknown, suggestion))


def _samples(
    store: Store, model: str, version: str, since_us: int, until_us: int
) -> Iterator[Sample]:
    meant = (
        record
        for record in store.records(since_us=since_us, until_us=until_us)
        if record.model == model and version in ("", record.version)
    )
    for batch in batches(store.with_feedback(meant)):
        others = disagreements_among(store, [record.id for record, _ in batch])
        for record, said in batch:
            settled, other = settle(said, "priority"), others.get(record.id)
            yield Sample(
                id=record.id,
                at=record.at,
                version=record.version,
                language=record.language,
                label=record.label,
                confidence=record.confidence,
                abstained=bool(record.abstained),
                said=settled.label if settled is not None else "",
                shadow=other.version if other is not None else "",
                other=other.label if other is not None else "",
                text=record.text,
            )


def _moves(controller: Controller, name: str, since_us: int, until_us: int) -> list[Move]:
    return [
        Move(
            at=entry.at_us / 1e6,
            action=entry.action,
            version=entry.version,
            previous=entry.previous,
            actor=entry.actor,
            reason=entry.reason,
        )
        for entry in controller.registry.catalogue.entries(name=name, alias=LIVE)
        if entry.action in MOVES and since_us <= entry.at_us < until_us
    ]


def _reads(controller: Controller, name: str, unknown: list[str]) -> Iterator[Read]:
    """What the rollout under way has compared so far; what keeps it from being known is added."""
    try:
        seen = controller.see(name)
    except XlmrError as fault:
        unknown.append(f"what was compared in the shadow: {fault.message}")
        return
    if seen is not None and not seen.rollout.state.over:
        for language, pairs in seen.evidence.pairs.items():
            yield Read(language, pairs.compared, pairs.disagreed)


def _standing(controller: Controller, name: str) -> dict[str, Any]:
    standing = controller.board.standing(name)
    rollout = standing.rollout
    rolling = rollout.state.candidate if rollout is not None and not rollout.state.over else ""
    return {"live": int(standing.live or 0), "rolling": rolling}


def _drift(
    settings: Settings, name: str, since_us: int, until_us: int, unknown: list[str]
) -> Iterator[Alert]:
    """Drift alarms of the window; what keeps them from being known is added to `unknown`."""
    hour_us = 3_600_000_000
    try:
        with opened_drift(settings) as store:
            found = store.alarms(since=since_us // hour_us, until=-(-until_us // hour_us))
    except XlmrError as fault:
        unknown.append(f"drift alarms: {fault.message}")
        return
    for watched, alarm in found:
        if watched.model == name:
            yield Alert(
                source="drift",
                name=f"{alarm.finding.signal} ({alarm.kind})",
                since=alarm.since * 3600.0,
                until=(alarm.last + 1) * 3600.0,
                labels={"language": alarm.language, "version": watched.version},
            )


def _firing(url: str, name: str, since: float, until: float, unknown: list[str]) -> list[Alert]:
    """Alerts on the model or its servers that Prometheus saw firing.

    What keeps them from being known is added to `unknown`.
    """
    if not url:
        unknown.append("alerts: no Prometheus is named (--prometheus, or XLMR_PROMETHEUS)")
        return []
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"{url!r} is no http URL", hint="XLMR_PROMETHEUS=http://HOST:9090")
    points = math.ceil((until - since) / max(_STEP_S, (until - since) / _MOST_POINTS))
    step = (until - since) / points
    asked = {
        "query": 'ALERTS{alertstate="firing"}',
        "start": f"{since:.3f}",
        # So that the last point is the end itself, however it is rounded.
        "end": f"{until + step / 2.0:.3f}",
        "step": f"{step:.3f}",
    }
    address = f"{url.rstrip('/')}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
    try:
        with urllib.request.urlopen(address, timeout=_WAIT_S) as reply:
            series = json.loads(reply.read(_MOST_BYTES))["data"]["result"]
        found = [_alert(each["metric"], each["values"]) for each in series]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as fault:
        unknown.append(f"alerts: Prometheus does not say ({type(fault).__name__})")
        return []
    return [
        alert
        for alert in found
        if alert.labels.get("model") == name
        or ("model" not in alert.labels and alert.name.startswith(_OURS))
    ]


def _alert(metric: dict[str, str], values: list[tuple[float, str]]) -> Alert:
    labels = {k: v for k, v in metric.items() if k not in ("__name__", "alertname", "alertstate")}
    return Alert(
        source="prometheus",
        name=metric["alertname"],
        since=float(values[0][0]),
        until=float(values[-1][0]),
        labels=labels,
    )


def _in_words(
    gathered: Gathered,
    languages: list[Language],
    moves: list[Move],
    alerts: list[Alert],
    unknown: list[str],
    suggestion: Suggestion,
) -> str:
    counts = {period: seen.total() for period, seen in gathered.versions.items()}
    lines = [f"{counts['now']} predictions, and {counts['before']} in as long a time before"]
    for each in languages:
        if each.worse:
            lines.append(f"  {each.language}: {', '.join(_figures(each))}")
    lines += [
        f"  {moment(move.at)} {move.action}: {move.previous or 'none'} → {move.version or 'none'}"
        f" by {move.actor}"
        for move in moves
    ]
    lines += [f"  {moment(alert.since)} {alert.source}: {alert.name}" for alert in alerts]
    lines += [f"  not known: {each}" for each in unknown]
    lines += [f"{len(gathered.disagreeing)} answers called wrong are in the report"]
    if gathered.otherwise:
        where = (f"{language} {count}" for language, count in gathered.otherwise.most_common())
        lines += [f"answered otherwise in the shadow: {', '.join(where)}"]
    return "\n".join([*lines, *suggestion.why, suggestion.command]).rstrip()


def _figures(language: Language) -> Iterator[str]:
    for name in language.worse:
        figure = getattr(language, name)
        yield f"{name} {figure.before:.3f} → {figure.now:.3f}"
