"""Settings as command-line options: each knob's flag, help, choices and variable, said once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

import click

from xlmr.settings import Settings

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def knobs(*names: str) -> Callable[[CommandT], CommandT]:
    """Adds an option for each named setting; what is not given reaches the command as None.

    The command passes them on: `Settings.from_environment(**knobs)`. Values are checked there, so
    flag and variable obey the same rules.
    """
    by_name = {knob.name: knob for knob in fields(Settings)}

    def decorate(command: CommandT) -> CommandT:
        for name in reversed(names):
            knob = by_name[name]
            choices = knob.metadata["choices"]
            if choices == ("no", "yes"):
                command = _switch(name, knob.metadata)(command)
                continue
            command = click.option(
                f"--{name.replace('_', '-')}",
                type=click.Choice(choices) if choices else None,
                metavar=None if choices else name.rpartition("_")[2].upper(),
                help=f"{knob.metadata['help']}  [{knob.metadata['variable']}; {knob.default}]",
            )(command)
        return command

    return decorate


def _switch(name: str, metadata: Mapping[str, Any]) -> Callable[[CommandT], CommandT]:
    """A setting that is `no` unless its flag is given."""
    said = f"{metadata['help']}  [{metadata['variable']}; no]"
    return click.option(f"--{name.replace('_', '-')}", name, flag_value="yes", help=said)
