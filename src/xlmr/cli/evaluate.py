"""`xlmr evaluate`: how right a model is, language by language."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from xlmr.cli.progress import TokenBar
from xlmr.evaluation.compare import Comparison, compare
from xlmr.evaluation.page import render
from xlmr.evaluation.report import Predicted, Report, build_report, predict, right_by_language
from xlmr.evaluation.slices import by_length, disturb
from xlmr.evaluation.suites import DataFile, read_split
from xlmr.settings import Settings


@click.command("evaluate")
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="JSONL, CSV, TSV or Parquet with text, label, language; "
    "or a folder of LANGUAGE.SPLIT.jsonl.",
)
@click.option("--split", default="test", show_default=True, help="Which files of a folder.")
@click.option(
    "--language", "languages", multiple=True, metavar="CODE", help="Only this; may be repeated."
)
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="An older model, to be compared with row by row.",
)
@click.option(
    "--slices", is_flag=True, help="Also by length, with typos, and in Latin letters (extra: fit)."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of intervals and typos.")
@click.option(
    "--html",
    "html_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report as a page with pictures, complete in one file.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write the report as JSON; - for stdout.")
def evaluate_command(
    model: Path,
    data: Path,
    split: str,
    languages: tuple[str, ...],
    against: Path | None,
    slices: bool,
    seed: int,
    html_path: Path | None,
    json_path: str | None,
) -> None:
    """Score a classifier in every language of a labelled set, the worst language first.

    \b
      xlmr evaluate models/router --data examples/support/data
      xlmr evaluate models/new --data data --against models/live

    The interval holds the accuracy with 95 % coverage, were other texts of the same kind drawn.
    Against another model, both are scored on the same texts and the difference has the interval.
    """
    files = read_split(data, split, languages=languages)
    disturbed = _disturbed(files, seed) if slices else {}
    scored, *harder = _score(model, [files, *disturbed.values()], "scoring")
    report = build_report(scored.predictions, seed=seed)
    sliced = _slice_reports(scored, dict(zip(disturbed, harder, strict=True)), seed)
    comparison, old = None, None
    if against is not None:
        old = _score(against, [files], "scoring the older model")[0]
        comparison = compare(
            right_by_language(old.predictions), right_by_language(scored.predictions), seed=seed
        )
    said = report.to_json() | _origin(files, scored)
    if comparison is not None and old is not None:
        said["comparison"] = comparison.to_json() | {"old": _model(old), "new": _model(scored)}
    if slices:
        said["slices"] = {name: part.to_json() for name, part in sliced.items()}
    if html_path is not None:
        page = render(
            report, scored.predictions, title=model.name, slices=sliced, comparison=comparison
        )
        html_path.write_text(page, encoding="utf-8")
    written = json.dumps(said, indent=2)
    if json_path == "-":
        click.echo(written)
        return
    console = Console(highlight=False)
    print_report(report, console)
    click.echo(scored.cost)
    if slices:
        print_slices(sliced, console)
    if comparison is not None:
        print_comparison(comparison, console)
    if json_path is not None:
        Path(json_path).write_text(written + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Scored:
    """A model's answers to every row, which model that was, and a line about what it cost."""

    predictions: list[Predicted]
    digest: str
    runtime: str
    cost: str


def _score(model: Path, sets: Sequence[Sequence[DataFile]], doing: str) -> list[_Scored]:
    """Scores every set of files with one model, loaded once."""
    from xlmr.model.predictor import load

    rows = sum(len(file.rows) for files in sets for file in files)
    done, found = 0, []
    with load(model, settings=Settings.from_environment()) as predictor, TokenBar(doing) as bar:
        digest, runtime = predictor.bundle.digest, predictor.runtime.name
        for files in sets:
            predictions, tokens, seconds = [], bar.tokens, bar.seconds
            for prediction in predict(predictor, files) if files else ():
                predictions.append(prediction)
                done += 1
                bar.advance(done=done / rows, tokens=prediction.tokens)
            tokens, seconds = bar.tokens - tokens, bar.seconds - seconds
            cost = f"{len(predictions)} texts, {tokens:,} tokens in {seconds:.1f} s on {runtime}"
            found.append(_Scored(predictions, digest, runtime, cost))
    return found


def _disturbed(files: Sequence[DataFile], seed: int) -> dict[str, list[DataFile]]:
    """The files with harder texts, by what was done to them; without files that it left as is."""
    found: dict[str, list[DataFile]] = {}
    for how in ("typos", "transliterated"):
        changed = [replace(file, rows=disturb(file.rows, how, seed=seed)) for file in files]
        found[how] = [file for file in changed if file.rows]
    return found


def _slice_reports(scored: _Scored, harder: Mapping[str, _Scored], seed: int) -> dict[str, Report]:
    predictions = scored.predictions
    lengths = by_length(predictions, [prediction.tokens for prediction in predictions])
    parts = {f"{name} tokens": list(bucket) for name, bucket in lengths.items()}
    parts |= {how: part.predictions for how, part in harder.items() if part.predictions}
    return {name: build_report(part, seed=seed) for name, part in parts.items()}


def print_report(report: Report, console: Console) -> None:
    """The summary, then a line for each language."""
    console.print(f"macro accuracy  {report.macro_accuracy:.3f}  over {_languages(report)}")
    console.print(f"worst language  {report.worst_accuracy:.3f}  {report.worst}")
    if report.gap_to_english is not None:
        console.print(
            f"gap to English  {report.gap_to_english:.3f}  English {report.english_accuracy:.3f}"
        )
    table = Table("language", box=None, pad_edge=False)
    for heading in ("n", "accuracy", "95 % interval", "macro F1", "ECE"):
        table.add_column(heading, justify="right")
    for score in report.languages:
        table.add_row(
            score.language,
            str(score.n),
            f"{score.accuracy:.3f}",
            f"{score.low:.3f} – {score.high:.3f}",
            f"{score.macro_f1:.3f}",
            f"{score.ece:.3f}",
        )
    console.print()
    console.print(table)


def _languages(report: Report) -> str:
    count = len(report.languages)
    return "1 language" if count == 1 else f"{count} languages"


def print_slices(sliced: Mapping[str, Report], console: Console) -> None:
    """A line for each slice; languages differ between slices, so macro does too."""
    table = Table("slice", box=None, pad_edge=False)
    for heading in ("n", "languages", "macro accuracy", "worst"):
        table.add_column(heading, justify="right")
    for name, report in sliced.items():
        worst = f"{report.worst_accuracy:.3f} {report.worst}"
        count = str(len(report.languages))
        table.add_row(name, str(report.n), count, f"{report.macro_accuracy:.3f}", worst)
    console.print()
    console.print(table)


def print_comparison(comparison: Comparison, console: Console) -> None:
    """The macro difference in points, then a line for each language, the greatest loss first."""
    macro = comparison.macro
    console.print()
    console.print(
        f"against the older model  {_points(macro.difference)} points macro {comparison.metric}  "
        f"95 % interval {_points(macro.low)} – {_points(macro.high)}"
    )
    table = Table("language", box=None, pad_edge=False)
    for heading in ("n", "older", "this", "points", "95 % interval"):
        table.add_column(heading, justify="right")
    for language, found in comparison.languages.items():
        table.add_row(
            language,
            str(found.n),
            f"{found.old:.3f}",
            f"{found.new:.3f}",
            _points(found.difference),
            f"{_points(found.low)} – {_points(found.high)}",
        )
    console.print()
    console.print(table)


def _points(share: float) -> str:
    return f"{round(share * 100.0, 1) + 0.0:+.1f}"  # + 0.0: no minus before a zero


def _model(scored: _Scored) -> dict[str, str]:
    return {"digest": scored.digest, "runtime": scored.runtime}


def _origin(files: Sequence[DataFile], scored: _Scored) -> dict[str, Any]:
    return {
        "model": _model(scored),
        "data": [
            {"file": file.path.name, "sha256": file.sha256, "rows": len(file.rows)}
            for file in files
        ],
    }
