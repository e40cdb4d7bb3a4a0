"""`xlmr rollout`: a version goes live step by step, by evidence, and back by itself."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from xlmr.cli.registry_place import json_option, read_report, reason_option, say
from xlmr.cli.rollout_place import (
    opened_controller,
    override_option,
    read_plan,
    report_option,
    rollout_place_options,
    trusting_place_options,
)
from xlmr.cli.rollout_routes import ensemble, route_line, single, split
from xlmr.cli.rollout_view import rollout_view, seen_json, sentence, stage_line
from xlmr.errors import DataError, RegistryUnavailableError, SettingsError, VersionNotFoundError
from xlmr.registry.rollout.controller import Controller, Seen
from xlmr.registry.rollout.kept import Standing
from xlmr.registry.rollout.plan import DEFAULT_PLAN
from xlmr.registry.rollout.routing import route_to_json

Show = Callable[[Seen | str], None]
# What `watch` ends with.
_LIVE, _BACK, _UNDECIDED = 0, 3, 4
_must_say_why = click.option("--reason", required=True, help="Why; goes into the journal.")


@click.group("rollout")
def rollout_command() -> None:
    """Bring a version live step by step: shadow, 1, 5, 25, 50, 100 %; and back by itself.

    \b
      xlmr rollout plan > plan.toml
      xlmr rollout start router 3 --plan plan.toml --report gate.json --objective-ms 250
      xlmr rollout watch router
      xlmr rollout abort router --reason "refunds are misrouted"

    Servers that follow the registry carry it on; nobody has to watch. Each look is a test that may
    be made at any moment: it goes on once the next step is proven to do little harm, and back once
    harm is proven. docs/rollout.md says how.

    Several versions may answer for good, too:

    \b
      xlmr rollout split router 3=0.5 4=0.5      A/B
      xlmr rollout ensemble router 3 4           both answer, and are averaged
      xlmr rollout single router                 the live version alone
    """


for _command in (split, ensemble, single):
    rollout_command.add_command(_command)


@rollout_command.command()
@click.argument("name")
@click.argument("version")
@click.option(
    "--plan",
    "plan_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML, as `xlmr rollout plan` prints it.  [the default plan]",
)
@report_option
@override_option
@click.option(
    "--language",
    "languages",
    multiple=True,
    help="Must have been seen, and is tested by itself; may be given again.  [the plan's]",
)
@click.option(
    "--objective-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="An answer that takes longer is too slow.  [the plan's]",
)
@reason_option
@trusting_place_options
@json_option
def start(
    name: str,
    version: str,
    plan_path: Path | None,
    report: Path | None,
    override: str,
    languages: tuple[str, ...],
    objective_ms: float | None,
    reason: str,
    as_json: bool,
    **place: Any,
) -> None:
    """Begin to roll VERSION of NAME out against the one that is live.

    Whether it may go live is decided here, by a gate's report on it or a journalled override.
    """
    plan, told = read_plan(plan_path), read_report(report)
    with opened_controller(place) as controller:
        state = controller.start(
            f"{name}@{version}",
            plan,
            reason=reason,
            report=told,
            override=override,
            languages=languages,
            objective_ms=objective_ms,
        )
    said = f"{stage_line(state, state.started_at)}\nsee `xlmr rollout watch {name}`"
    say(state.to_json(), said, as_json=as_json)


@rollout_command.command()
@click.argument("name", required=False)
@rollout_place_options
@json_option
def status(name: str | None, as_json: bool, **place: Any) -> None:
    """Show where rollouts stand: stage, counts by version and language, e-values, and why."""
    with opened_controller(place) as controller:
        standings = [controller.board.standing(name)] if name else controller.board.standings()
        told = [kept for kept in standings if kept.rollout is not None or kept.route is not None]
        found = [(kept, *_looked(controller, kept.name)) for kept in told]
    if as_json:
        click.echo(json.dumps([_status_json(*each) for each in found], indent=2))
        return
    console = _console()
    for kept, seen, fault in found:
        if kept.route is not None:
            click.echo(route_line(kept.name, kept.route))
        if seen is not None:
            console.print(rollout_view(seen, bars=False))
        elif kept.rollout is not None:
            state = kept.rollout.state
            click.echo(f"{stage_line(state, time.time())}\n  {state.sentence}\n  {fault}")
    if not told:
        click.echo("no rollout yet: `xlmr rollout start NAME VERSION`")


@rollout_command.command()
@click.argument("name")
@_must_say_why
@rollout_place_options
@json_option
def promote(name: str, reason: str, as_json: bool, **place: Any) -> None:
    """Take the next step now, whatever the counts say; the last one leads to 100 %."""
    _decide(place, name, "promote", reason, as_json=as_json)


@rollout_command.command()
@click.argument("name")
@_must_say_why
@rollout_place_options
@json_option
def abort(name: str, reason: str, as_json: bool, **place: Any) -> None:
    """Back to the version of before, now; also while it is watched after promotion."""
    _decide(place, name, "abort", reason, as_json=as_json)


@rollout_command.command()
@click.argument("name")
@click.option(
    "--until",
    type=click.Choice(("live", "done")),
    default="live",
    show_default=True,
    help="Stay until it answers all requests, or until the window after that has closed.",
)
@click.option("--every", type=click.FloatRange(min=0.1), default=1.0, help="Seconds.  [1]")
@rollout_place_options
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each look.")
def watch(name: str, until: str, every: float, as_json: bool, **place: Any) -> None:
    """Look at the rollout of NAME until it is decided, and carry it on as servers do.

    Whoever may not promote only looks. Ends with 0 once it is live, with 3 if it went back, and
    with 4 if it is undecided and a person is asked.
    """
    with opened_controller(place) as controller, _shown(as_json) as show:
        while True:
            code = _watched(controller, name, until, show)
            if code is not None:
                break
            time.sleep(every)
    click.get_current_context().exit(code)


@rollout_command.command("plan")
def plan_command() -> None:
    """Print the default plan, with every key and what it means."""
    click.echo(DEFAULT_PLAN, nl=False)


def _decide(
    place: dict[str, Any],
    name: str,
    command: Literal["promote", "abort"],
    reason: str,
    *,
    as_json: bool,
) -> None:
    with opened_controller(place) as controller:
        state = controller.command(name, command, reason=reason)
    said = f"{stage_line(state, state.since)}\n{state.sentence}"
    say(state.to_json(), said, as_json=as_json)


def _looked(controller: Controller, name: str) -> tuple[Seen | None, str]:
    """A look, or why there is none: what is kept can be told without the counts."""
    try:
        return controller.see(name), ""
    except (RegistryUnavailableError, SettingsError, DataError) as fault:
        return None, fault.message


def _status_json(kept: Standing, seen: Seen | None, fault: str) -> Mapping[str, Any]:
    route = None if kept.route is None else route_to_json(kept.route)
    rollout = None if seen is None else seen_json(seen)
    if seen is None and kept.rollout is not None:
        rollout = kept.rollout.state.to_json() | {"error": fault}
    return {"name": kept.name, "live": kept.live, "route": route, "rollout": rollout}


def _watched(controller: Controller, name: str, until: str, show: Show) -> int | None:
    """One look; what to end with, or None."""
    try:
        seen = controller.see(name)
        if seen is None:
            raise VersionNotFoundError(
                f"{name}: there is no rollout", hint="`xlmr rollout start` begins one"
            )
        show(seen)
        state = seen.rollout.state
        if state.phase == "done" or (state.phase == "watching" and until == "live"):
            return _LIVE
        if state.phase == "rolled_back":
            return _BACK
        if state.undecided:
            return _UNDECIDED
        if "promote" in controller.registry.actor.roles:
            controller.act(seen)
    except (RegistryUnavailableError, DataError) as fault:
        show(fault.message)
    return None


@contextlib.contextmanager
def _shown(as_json: bool) -> Iterator[Show]:
    """Shows looks, and why there was none: as lines, or as a picture that changes."""
    console = _console()
    if as_json:
        yield lambda told: click.echo(
            json.dumps({"error": told} if isinstance(told, str) else seen_json(told))
        )
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda told: live.update(
                Text(told) if isinstance(told, str) else rollout_view(told, bars=True),
                refresh=True,
            )
    else:
        yield _Lines()


class _Lines:
    """Says a look in a line, unless it says what the one before said."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, told: Seen | str) -> None:
        said = told if isinstance(told, str) else sentence(told)
        if said == self._last:
            return
        self._last = said
        before = "" if isinstance(told, str) else f"{stage_line(told.rollout.state, told.now)}. "
        click.echo(before + said)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=500)
