"""Commands that stand in files of others' making, held against what `xlmr` knows."""

from __future__ import annotations

from collections.abc import Sequence

import click

from xlmr.cli.main import cli


def unknown_words(words: Sequence[str]) -> set[str]:
    """The verb, if `xlmr` has none of that name, or options that it does not know.

    Args:
        words: of a command, without `xlmr`.
    """
    command: click.Command = cli
    rest = list(words)
    while isinstance(command, click.Group):
        verb = rest.pop(0)
        inner = command.get_command(click.Context(cli), verb)
        if inner is None:
            return {verb}
        command = inner
    known = {option for param in command.params for option in param.opts}
    return {word for word in rest if word.startswith("--")} - known
