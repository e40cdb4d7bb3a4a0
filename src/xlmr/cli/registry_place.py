"""What the verbs of `xlmr registry` share: where it is, who acts, and how an answer is printed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from xlmr.cli.knobs import knobs
from xlmr.cli.progress import byte_bars
from xlmr.errors import DataError
from xlmr.registry.opening import open_registry
from xlmr.registry.registry import Registry
from xlmr.settings import Settings

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
reason_option = click.option("--reason", default="", help="Why; goes into the journal.")


def place_options(*more: str) -> Callable[[CommandT], CommandT]:
    """Where the registry is and who acts; every verb takes these."""

    def decorate(command: CommandT) -> CommandT:
        command = click.option("--as", "actor", default="", help="Who acts.  [the user]")(command)
        names = ("registry", "registry_store", "registry_roles", *more)
        return knobs(*names)(command)

    return decorate


def settings_of(place: dict[str, Any]) -> Settings:
    """Settings from what `place_options` gave a verb."""
    return Settings.from_environment(**{k: v for k, v in place.items() if k != "actor"})


@contextlib.contextmanager
def opened(place: dict[str, Any], *, bars: bool = False) -> Iterator[Registry]:
    """The registry, closed at the end; with `bars` it shows how many bytes are done."""
    settings = settings_of(place)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(byte_bars()) if bars else None
        actor = place["actor"] or ""
        yield stack.enter_context(open_registry(settings, actor=actor, progress=progress))


def read_report(path: Path | None) -> dict[str, Any] | None:
    """A gate's report; None for none.

    Raises:
        DataError: it cannot be read, or is none.
    """
    if path is None:
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise DataError(f"{path}: {fault.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        report = None
    if not isinstance(report, dict):
        raise DataError(f"{path}: no gate's report", hint="`xlmr gate --out FILE` writes one")
    return report


def say(said: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Prints an answer, for people or as JSON."""
    click.echo(json.dumps(said, indent=2, default=str) if as_json else text)
