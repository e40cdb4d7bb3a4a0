"""What the verbs of `xlmr rollout` share: where it is kept, and what lets a version answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from xlmr.cli.registry_place import place_options, settings_of
from xlmr.errors import SettingsError
from xlmr.registry.opening import open_controller
from xlmr.registry.rollout.controller import Controller
from xlmr.registry.rollout.plan import Plan, make_plan, parse_plan

rollout_place_options = place_options("redis_url")
trusting_place_options = place_options("redis_url", "trusted_keys")
report_option = click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What `xlmr gate --out` wrote on the version.",
)
override_option = click.option(
    "--override",
    default="",
    metavar="REASON",
    help="Although no report allows it; stays in the journal.",
)


@contextlib.contextmanager
def opened_controller(place: dict[str, Any]) -> Iterator[Controller]:
    """The rollouts of the registry, closed at the end."""
    with open_controller(settings_of(place), actor=place["actor"] or "") as controller:
        yield controller


def read_plan(path: Path | None) -> Plan:
    """A plan; the default one without a file.

    Raises:
        SettingsError: it cannot be read, or says what it cannot say.
    """
    if path is None:
        return make_plan({})
    try:
        return parse_plan(path.read_text(encoding="utf-8"), origin=str(path))
    except OSError as fault:
        raise SettingsError(f"{path}: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not a text", hint="the file must be TOML") from None
