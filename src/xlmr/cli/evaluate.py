"""`xlmr evaluate`: how right a model is, language by language."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from xlmr.cli.progress import TokenBar
from xlmr.evaluation.report import Report, build_report, predict
from xlmr.evaluation.suites import DataFile, read_split
from xlmr.settings import Settings


@click.command("evaluate")
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="JSONL or CSV with text, label, language; or a folder of LANGUAGE.SPLIT.jsonl.",
)
@click.option("--split", default="test", show_default=True, help="Which files of a folder.")
@click.option(
    "--language", "languages", multiple=True, metavar="CODE", help="Only this; may be repeated."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the intervals.")
@click.option("--json", "json_path", metavar="FILE", help="Write the report as JSON; - for stdout.")
def evaluate_command(
    model: Path,
    data: Path,
    split: str,
    languages: tuple[str, ...],
    seed: int,
    json_path: str | None,
) -> None:
    """Score a classifier in every language of a labelled set, the worst language first.

    \b
      xlmr evaluate models/router --data examples/support/data

    The interval holds the accuracy with 95 % coverage, were other texts of the same kind drawn.
    """
    from xlmr.model.predictor import load

    files = read_split(data, split, languages=languages)
    rows = sum(len(file.rows) for file in files)
    predictions = []
    with (
        load(model, settings=Settings.from_environment()) as predictor,
        TokenBar("scoring") as bar,
    ):
        for prediction in predict(predictor, files):
            predictions.append(prediction)
            bar.advance(done=len(predictions) / rows, tokens=prediction.tokens)
        digest = predictor.bundle.digest
        runtime = predictor.runtime.name
    report = build_report(predictions, seed=seed)
    said = _as_json(report, files, digest=digest, runtime=runtime)
    if json_path == "-":
        click.echo(said)
        return
    print_report(report, Console(highlight=False))
    click.echo(f"{rows} texts, {bar.tokens:,} tokens in {bar.seconds:.1f} s on {runtime}")
    if json_path is not None:
        Path(json_path).write_text(said + "\n", encoding="utf-8")


def print_report(report: Report, console: Console) -> None:
    """The summary, then a line for each language."""
    console.print(f"macro accuracy  {report.macro_accuracy:.3f}  over {_languages(report)}")
    console.print(f"worst language  {report.worst_accuracy:.3f}  {report.worst}")
    if report.gap_to_english is not None:
        console.print(
            f"gap to English  {report.gap_to_english:.3f}  English {report.english_accuracy:.3f}"
        )
    table = Table("language", box=None, pad_edge=False)
    for heading in ("n", "accuracy", "95 % interval", "macro F1"):
        table.add_column(heading, justify="right")
    for score in report.languages:
        table.add_row(
            score.language,
            str(score.n),
            f"{score.accuracy:.3f}",
            f"{score.low:.3f} – {score.high:.3f}",
            f"{score.macro_f1:.3f}",
        )
    console.print()
    console.print(table)


def _languages(report: Report) -> str:
    count = len(report.languages)
    return "1 language" if count == 1 else f"{count} languages"


def _as_json(report: Report, files: Sequence[DataFile], *, digest: str, runtime: str) -> str:
    origin = {
        "model": {"digest": digest, "runtime": runtime},
        "data": [
            {"file": file.path.name, "sha256": file.sha256, "rows": len(file.rows)}
            for file in files
        ],
    }
    return json.dumps(report.to_json() | origin, indent=2)
