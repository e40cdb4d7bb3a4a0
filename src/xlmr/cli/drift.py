"""`xlmr drift`: whether a model still works: what moved, in which language, since when."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from xlmr.cli.drift_closer import closer_look
from xlmr.cli.drift_page import render
from xlmr.cli.drift_place import opened_drift
from xlmr.cli.drift_reference import reference_command
from xlmr.cli.feedback_place import json_option, write_out
from xlmr.cli.knobs import knobs
from xlmr.cli.moments import moment_us
from xlmr.drift.alarms import Alarm
from xlmr.drift.bets import Finding
from xlmr.drift.keeping import GRACE_S, HOUR_S, DriftStore, Held, State, Watched
from xlmr.drift.label_free import Accuracy, Labelled
from xlmr.drift.reference import Reference
from xlmr.drift.report import Report, make_report, time_of
from xlmr.errors import DataError, SettingsError
from xlmr.feedback.store import Store
from xlmr.serving.observing.labelled import labelled_by_language
from xlmr.settings import Settings

_WEEK_HOURS = 7 * 24
_HOUR_US = HOUR_S * 1_000_000


@click.group("drift")
def drift_command() -> None:
    """Whether a model still works, language by language, by counts that hold no text.

    \b
      xlmr drift reference models/router --data held-out
      xlmr serve models/router --drift drift.db
      xlmr drift status --drift drift.db
      xlmr drift report --drift drift.db --since 2024-03-05 --html drift.html

    Without --drift (XLMR_DRIFT) counts lie in the feedback store's database. docs/drift.md says
    what is counted, and what an alarm means.
    """


drift_command.add_command(reference_command)


@drift_command.command()
@knobs("drift", "feedback")
@json_option
def status(as_json: bool, **place: Any) -> None:
    """Show what is counted and watched, and how near to an alarm it is."""
    now = int(time.time() - GRACE_S) // HOUR_S
    with opened_drift(Settings.from_environment(**place)) as store:
        states = {state.watched: state for state in store.states()}
        alarms = store.alarms(since=now - _WEEK_HOURS)
        rows = [_status(held, states.get(held.watched), alarms, now) for held in store.held()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo("nothing is counted yet")
    else:
        table = Table(*(name.replace("_", " ") for name in rows[0]), box=None)
        for row in rows:
            table.add_row(*("-" if value is None else str(value) for value in row.values()))
        _console().print(table)


@drift_command.command()
@click.argument("name", required=False, metavar="[NAME[@VERSION]]")
@click.option("--since", metavar="TIME", help="From then on (ISO 8601).  [a week ago]")
@click.option("--until", metavar="TIME", help="Before then (ISO 8601).  [now]")
@click.option("--json", "json_path", metavar="FILE", help="Write it as JSON; - for stdout.")
@click.option(
    "--html",
    "html_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it as a page with pictures, complete in one file.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The version's directory: look closer at the texts of what drifted.",
)
@knobs("drift", "feedback", "runtime", "precision", "threads")
def report(
    name: str | None,
    since: str | None,
    until: str | None,
    json_path: str | None,
    html_path: Path | None,
    model: Path | None,
    **place: Any,
) -> None:
    """Tell what moved, in which language, since when, and what it likely cost.

    NAME@VERSION may be left out where only one version is watched. Times count in whole hours.
    `xlmr select` and `xlmr retrain` read the JSON. With --model it also looks at the redacted texts
    that the feedback store kept of languages that drifted, and tells which predictions are typical.
    """
    settings = Settings.from_environment(**place)
    last = moment_us(until) // _HOUR_US if until else int(time.time()) // HOUR_S + 1
    first = moment_us(since) // _HOUR_US if since else last - _WEEK_HOURS
    if first >= last:
        raise SettingsError("the period ends before it begins")
    with opened_drift(settings) as store:
        watched, reference = _chosen(store, name)
        made = make_report(
            watched.model,
            watched.version,
            reference,
            list(store.hours(watched, reference.labels, first, last)),
            since=first,
            until=last,
            alarms=[alarm for _, alarm in store.alarms(watched, since=first, until=last)],
            labelled=_labelled(settings, watched, first, last),
        )
    drifted = [each.language for each in made.languages if each.drifted]
    closer = closer_look(model, settings, watched, drifted, since=first, until=last)
    made = replace(made, closer=closer)
    written = json.dumps(made.to_json(), indent=2, allow_nan=False)
    if html_path is not None:
        write_out(html_path, render(made))
    if json_path == "-":
        click.echo(written)
        return
    if json_path is not None:
        write_out(Path(json_path), written)
    _print(made)


def _chosen(store: DriftStore, name: str | None) -> tuple[Watched, Reference]:
    """The version that is meant, and what it is held against."""
    model, _, version = (name or "").partition("@")
    states = [state for state in store.states() if state.reference]
    fitting = [
        state
        for state in states
        if (not model or state.watched.model == model)
        and (not version or state.watched.version == version)
    ]
    if not fitting:
        raise DataError(
            f"{name} is not watched" if name else "nothing is watched",
            hint="`xlmr drift reference` writes what a version is held against; serve it with that",
        )
    if len(fitting) > 1:
        known = ", ".join(f"{each.watched.model}@{each.watched.version}" for each in fitting)
        raise DataError(f"several versions are watched: {known}", hint="name one")
    reference = store.reference(fitting[0].reference)
    if reference is None:
        raise DataError("the drift store has lost the reference", hint="serve the version again")
    return fitting[0].watched, reference


def _labelled(settings: Settings, watched: Watched, first: int, last: int) -> dict[str, Labelled]:
    """By language, what annotators say of answers that chance picked."""
    if not settings.feedback:
        return {}
    with contextlib.closing(Store(settings.feedback)) as store:
        return labelled_by_language(
            store,
            model=watched.model,
            version=watched.version,
            since_us=first * _HOUR_US,
            until_us=last * _HOUR_US,
        )


def _status(
    held: Held, state: State | None, alarms: list[tuple[Watched, Alarm]], now: int
) -> dict[str, Any]:
    """A row of `status`; hours as times, and what needs a reference only where there is one."""
    own = [alarm for whose, alarm in alarms if whose == held.watched]
    row: dict[str, Any] = {
        **held.watched._asdict(),
        "rows": held.rows,
        "first": time_of(held.first),
        "last": time_of(held.last),
        "reference": None,
        "hours_behind": None,
        "nearest": None,
        "alarms_in_a_week": len(own),
        "open_alarms": sum(alarm.open_at(now) for alarm in own),
    }
    if state is not None and state.reference:
        row["reference"] = state.reference[:12]
        row["hours_behind"] = max(0, now - 1 - state.hour)
        levels = [
            (level, f"{language} {signal}")
            for language, signals in state.levels.items()
            for signal, level in signals.items()
        ]
        level, where = max(levels)
        row["nearest"] = f"{where} {level:.2f}"
    return row


def _print(made: Report) -> None:
    console = _console()
    period = f"{time_of(made.since)} to {time_of(made.until)}"
    console.print(f"{made.model}@{made.version}, {period}: {made.rows:,} answers")
    if not made.rows:
        console.print("nothing was counted in that time")
        return
    heads = ("language", "answers", "since", "what moved", "right then", "right now", "lost")
    table = Table(*heads, box=None)
    for each in made.languages:
        right = each.accuracies
        lost = None if right.lost is None or not each.drifted else max(0, round(right.lost))
        table.add_row(
            each.language,
            f"{each.rows:,}",
            "-" if each.since is None else time_of(each.since),
            ", ".join(map(_in_words, each.moved)) or "-",
            _share(right.release),
            _share(right.labelled or right.estimated),
            "-" if lost is None else f"about {lost}",
        )
    console.print(table)
    for told in made.tickets:
        if told.kind == "mix":
            found = told.finding
            moved = f"{found.event} {found.was:.1%} then, {found.now:.1%} now"
            console.print(f"mix, since {time_of(told.since)}: {moved}")
    going_on = sum(alarm.open_at(made.until - 1) for alarm in made.alarms)
    console.print(f"{len(made.alarms)} alarms, {going_on} open, {len(made.tickets)} tickets")


def _in_words(finding: Finding) -> str:
    return f"{'more' if finding.rising else 'less'} {finding.event}"


def _console() -> Console:
    # Piped output has no width; a table must not be folded for that.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def _share(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return "-"
    return f"{accuracy.share:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%})"
