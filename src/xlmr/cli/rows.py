"""Which labelled rows a command scores: the options that say so, and the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from xlmr.evaluation.suites import Faults, Table, check_languages, columns_of, read_split
from xlmr.evaluation.tasks import TASKS, find_task
from xlmr.settings import Settings

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
Files = Sequence[Table[Any]]


def row_options(data_help: str, *, required: bool = True) -> Callable[[CommandT], CommandT]:
    """Adds what says which rows are meant and how they are read; `read_rows` takes what it gives.

    Except `--unknown-labels`, which an evaluator takes.
    """
    options = (
        click.option("--data", type=click.Path(path_type=Path), required=required, help=data_help),
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
        click.option(
            "--column",
            "columns",
            multiple=True,
            metavar="OURS=THEIRS",
            help="A column that the data calls otherwise: query=question; may be repeated.",
        ),
        click.option(
            "--faults",
            type=click.Choice(["stop", "skip"]),
            default="stop",
            show_default=True,
            help="What a row that cannot be read does: stop, or be left out and counted.",
        ),
        click.option(
            "--unknown-labels",
            type=click.Choice(["stop", "wrong"]),
            default="stop",
            show_default=True,
            help="What a row whose label the model cannot give does: stop, or count as wrong.",
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
    columns: tuple[str, ...],
    faults: Faults,
) -> tuple[str, Files]:
    """The task and its rows; faults of either are told before anything is computed.

    Args:
        model: decides the task where none is said.
        settings: where digests are remembered.
        data: a file or folder.
        split: which files of a folder.
        task: what is measured.
        languages: only these; all where empty.
        columns: `OURS=THEIRS`, where the data calls a column otherwise.
        faults: whether a row at fault stops the reading or is left out.

    Raises:
        DataError: rows at fault, a language without rows, or no task, or more than one, that fits
            model and data.
        click.BadParameter: a column is not said like that.
    """
    from xlmr.model.bundle import open_bundle

    names = _column_names(columns)
    if task is None:
        known = columns_of(data, split, languages=languages)
        task = find_task(open_bundle(model, cache_dir=settings.cache_dir), known, names)
    schema = TASKS[task].schema.with_columns(**names)
    files = read_split(data, split, schema, languages=languages, faults=faults)
    check_languages(files, languages, data, split)
    return task, files


def _column_names(columns: tuple[str, ...]) -> dict[str, str]:
    """Our name of a column → the data's."""
    names = {}
    for said in columns:
        ours, equals, theirs = said.partition("=")
        if not (ours and equals and theirs):
            raise click.BadParameter(f"{said}: expected OURS=THEIRS", param_hint="--column")
        names[ours] = theirs
    return names
