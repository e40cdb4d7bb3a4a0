"""Which labelled rows a command scores: the options that say so, and the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from xlmr.evaluation.suites import Faults, Table, columns_of, read_split
from xlmr.evaluation.tasks import TASKS, find_task
from xlmr.settings import Settings

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
Files = Sequence[Table[Any]]


def row_options(data_help: str) -> Callable[[CommandT], CommandT]:
    """Adds `--data`, `--split`, `--task` and `--language`; `read_rows` takes what they give."""
    options = (
        click.option("--data", type=click.Path(path_type=Path), required=True, help=data_help),
        click.option("--split", default="test", show_default=True, help="Which files of a folder."),
        click.option(
            "--task",
            type=click.Choice(list(TASKS)),
            help="What is measured.  [the one that both model and columns fit]",
        ),
        click.option(
            "--language",
            "languages",
            multiple=True,
            metavar="CODE",
            help="Only this; may be repeated.",
        ),
    )

    def decorate(command: CommandT) -> CommandT:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def read_rows(
    model: Path,
    settings: Settings,
    *,
    data: Path,
    split: str,
    task: str | None,
    languages: tuple[str, ...],
    names: Mapping[str, str] | None = None,
    faults: Faults = "stop",
) -> tuple[str, Files]:
    """The task and its rows; faults of either are told before anything is computed.

    Args:
        model: decides the task where none is said.
        settings: where digests are remembered.
        data: a file or folder.
        split: which files of a folder.
        task: what is measured.
        languages: only these; all where empty.
        names: our name of a column → the data's, where they differ.
        faults: whether a row at fault stops the reading or is left out.

    Raises:
        DataError: rows at fault, or no task, or more than one, that fits model and data.
    """
    from xlmr.model.bundle import open_bundle

    names = names or {}
    if task is None:
        known = columns_of(data, split, languages=languages)
        task = find_task(open_bundle(model, cache_dir=settings.cache_dir), known, names)
    schema = TASKS[task].schema.with_columns(**names)
    return task, read_split(data, split, schema, languages=languages, faults=faults)
