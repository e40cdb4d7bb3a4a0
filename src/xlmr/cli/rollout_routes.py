"""`xlmr rollout split|ensemble|single`: several versions answer a name for good, or one again."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from xlmr.cli.registry_place import json_option, read_report, reason_option, say
from xlmr.cli.rollout_place import (
    opened_controller,
    override_option,
    report_option,
    rollout_place_options,
    trusting_place_options,
)
from xlmr.registry.rollout.assignment import Ensemble, Weighted
from xlmr.registry.rollout.routing import route_to_json


@click.command()
@click.argument("name")
@click.argument("weights", nargs=-1, required=True, metavar="VERSION=WEIGHT...")
@click.option(
    "--unit",
    type=click.Choice(("caller", "request")),
    default="caller",
    show_default=True,
    help="Whether a caller always meets the same version.",
)
@report_option
@override_option
@reason_option
@trusting_place_options
@json_option
def split(
    name: str,
    weights: tuple[str, ...],
    unit: Literal["caller", "request"],
    report: Path | None,
    override: str,
    reason: str,
    as_json: bool,
    **place: Any,
) -> None:
    """Let several versions share the requests of NAME by weight: A/B.

    A version that never was live needs a gate's report, or an override. A later split keeps
    everybody where they are, as far as weights allow.
    """
    with opened_controller(place) as controller:
        before = controller.board.standing(name).route
        salt = before.salt if isinstance(before, Weighted) else secrets.token_hex(8)
        route = Weighted(_weights(weights), salt, unit)
        controller.set_route(
            name, route, reason=reason, report=read_report(report), override=override
        )
    _say_route(name, route, as_json=as_json)


@click.command()
@click.argument("name")
@click.argument("versions", nargs=-1, required=True, metavar="VERSION[=WEIGHT]...")
@report_option
@override_option
@reason_option
@trusting_place_options
@json_option
def ensemble(
    name: str,
    versions: tuple[str, ...],
    report: Path | None,
    override: str,
    reason: str,
    as_json: bool,
    **place: Any,
) -> None:
    """Let several versions answer each request of NAME, and average what they say."""
    route = Ensemble(_weights(versions))
    with opened_controller(place) as controller:
        controller.set_route(
            name, route, reason=reason, report=read_report(report), override=override
        )
    _say_route(name, route, as_json=as_json)


@click.command()
@click.argument("name")
@reason_option
@rollout_place_options
@json_option
def single(name: str, reason: str, as_json: bool, **place: Any) -> None:
    """Let the live version of NAME answer alone again."""
    with opened_controller(place) as controller:
        controller.set_route(name, None, reason=reason)
    _say_route(name, None, as_json=as_json)


def route_line(name: str, route: Weighted | Ensemble | None) -> str:
    """Who answers, in a line."""
    if route is None:
        return f"{name}: the live version answers"
    kind = "ensemble of" if isinstance(route, Ensemble) else "split among"
    return f"{name}: {kind} {', '.join(f'{v} ({w:g})' for v, w in route.weights.items())}"


def _say_route(name: str, route: Weighted | Ensemble | None, *, as_json: bool) -> None:
    said = {"name": name, "route": None if route is None else route_to_json(route)}
    say(said, route_line(name, route), as_json=as_json)


def _weights(words: Sequence[str]) -> dict[str, float]:
    """Weights by version, of words like `3` and `4=0.5`."""
    pairs = list(_pairs(words))
    weights = dict(pairs)
    if len(weights) < len(pairs):
        raise click.UsageError("a version is named twice")
    return weights


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, float]]:
    for word in words:
        version, _, said = word.partition("=")
        try:
            weight = float(said or "1")
        except ValueError:
            raise click.UsageError(f"{word!r}: expected VERSION=WEIGHT, as 3=0.5") from None
        if not version.isdecimal():
            raise click.UsageError(f"{word!r}: a version is a number here, as in 3=0.5")
        yield str(int(version)), weight
