"""`xlmr evaluate`: how right a model is, language by language, whatever its task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from xlmr.cli.knobs import knobs
from xlmr.cli.progress import TokenBar
from xlmr.cli.rows import Files, read_rows, row_options
from xlmr.cli.scores import print_comparison, print_report, print_slices
from xlmr.evaluation.compare import Comparison, compare
from xlmr.evaluation.label_errors import find_label_errors, write_label_errors
from xlmr.evaluation.page import render
from xlmr.evaluation.report import Report, build_report
from xlmr.evaluation.slices import by_length, harder
from xlmr.evaluation.tasks import (
    Evaluation,
    Evaluator,
    Judged,
    UnknownLabels,
    make_evaluator,
    values_by_language,
)
from xlmr.evaluation.translations import find_translations
from xlmr.settings import Settings


@click.command("evaluate")
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@row_options(
    "JSONL, CSV, TSV, Parquet, CoNLL, CoNLL-U, SQuAD JSON or text; "
    "or a folder of LANGUAGE.SPLIT.jsonl."
)
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="An older model, to be compared with row by row.",
)
@click.option(
    "--against-precision",
    type=click.Choice(["int8", "bf16", "fp32"]),
    help="Compare with the same model in this number format, row by row.",
)
@click.option(
    "--slices",
    is_flag=True,
    help="Also by length; of texts with labels, with typos, languages mixed, and in Latin letters "
    "(extra: fit).",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of all that is drawn.")
@knobs("runtime", "precision", "threads")
@click.option(
    "--html",
    "html_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report as a page with pictures, complete in one file.",
)
@click.option(
    "--label-errors",
    "label_errors_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the rows whose label is likely wrong as JSONL, without texts (extra: labels).",
)
@click.option("--json", "json_path", metavar="FILE", help="Write the report as JSON; - for stdout.")
def evaluate_command(
    model: Path,
    unknown_labels: UnknownLabels,
    against: Path | None,
    against_precision: str | None,
    slices: bool,
    seed: int,
    runtime: str | None,
    precision: str | None,
    threads: str | None,
    html_path: Path | None,
    label_errors_path: Path | None,
    json_path: str | None,
    **data: Any,
) -> None:
    """Score a model in every language of a labelled set, the worst language first.

    \b
      xlmr evaluate models/router --data examples/support/data
      xlmr evaluate models/new --data data --against models/live
      xlmr evaluate models/starter --data faq --split all --task rank \\
          --column query=question --column positive=answer
      xlmr evaluate models/router --data data --against-precision fp32

    The interval holds the figure with 95 % coverage, were other rows of the same kind drawn.
    Against another model, both are scored on the same rows and the difference has the interval.
    What a row needs is told where it is missing; `--task` says what the rows are for.
    """
    settings = Settings.from_environment(runtime=runtime, precision=precision, threads=threads)
    task, files = read_rows(model, settings, **data)
    disturbed = harder(files, seed=seed) if slices else {}
    scorer = _Scorer(task, settings, seed, unknown_labels)
    scored, *parts = scorer.score(model, [files, *disturbed.values()], "scoring")
    report = build_report(scored.evaluator, scored.judged, seed=seed)
    outcome = _Outcome(task, scored, report, files)
    if slices:
        outcome.slices = _slices(scored, dict(zip(disturbed, parts, strict=True)), seed)
    if against is not None:
        outcome.older = scorer.score(against, [files], "scoring the older model")[0]
    if against_precision is not None:
        other = replace(scorer, settings=replace(settings, precision=against_precision))
        outcome.other = other.score(model, [files], f"scoring in {against_precision}")[0]
    if label_errors_path is not None:
        found = find_label_errors(scored.evaluator, scored.judged, files)
        write_label_errors(label_errors_path, found)
        if json_path != "-":
            click.echo(f"{len(found)} labels are likely wrong: {label_errors_path}")
    _tell(outcome, model.name, html_path, json_path)


@dataclass(frozen=True, slots=True)
class _Scored:
    """A model's answers to every row, which model that was, and a line about what it cost."""

    evaluator: Evaluator
    judged: list[Judged]
    digest: str
    runtime: str
    cost: str

    @property
    def origin(self) -> dict[str, str]:
        """Which model, computed by what."""
        return {"digest": self.digest, "runtime": self.runtime}


@dataclass(slots=True)
class _Outcome:
    """Everything there is to tell; None and empty where nobody asked."""

    task: str
    scored: _Scored
    report: Report
    files: Files
    slices: Mapping[str, Report] | None = None
    older: _Scored | None = None
    other: _Scored | None = None

    def against(self, other: _Scored | None) -> Comparison | None:
        """This model compared with another, row by row."""
        if other is None:
            return None
        return compare(
            values_by_language(other.judged),
            values_by_language(self.scored.judged),
            metric=self.report.metric,
            figures=self.scored.evaluator.figures,
            translations=find_translations([row.row for row in self.scored.judged]),
            seed=self.report.seed,
        )


@dataclass(frozen=True, slots=True)
class _Scorer:
    """Scores models at one task, in one way."""

    task: str
    settings: Settings
    seed: int
    unknown_labels: UnknownLabels

    def score(self, model: Path, sets: Sequence[Files], doing: str) -> list[_Scored]:
        """Scores every set of files with one model, loaded once."""
        from xlmr.model.predictor import load

        rows = sum(len(file.rows) for files in sets for file in files)
        done, found = 0, []
        with load(model, settings=self.settings) as predictor, TokenBar(doing) as bar:
            digest, runtime = predictor.bundle.digest, predictor.runtime.name
            evaluator = make_evaluator(
                self.task,
                predictor,
                sets[0],
                seed=self.seed,
                unknown_labels=self.unknown_labels,
            )
            for files in sets:
                tokens, seconds = bar.tokens, bar.seconds
                evaluation = Evaluation(evaluator, files)
                for answer in evaluation:
                    done += 1
                    bar.advance(done=done / rows, tokens=answer.tokens)
                tokens, seconds = bar.tokens - tokens, bar.seconds - seconds
                count = len(evaluation.judged)
                cost = f"{count} rows, {tokens:,} tokens in {seconds:.1f} s on {runtime}"
                found.append(_Scored(evaluator, evaluation.judged, digest, runtime, cost))
        return found


def _slices(scored: _Scored, harder: Mapping[str, _Scored], seed: int) -> dict[str, Report]:
    lengths = by_length(scored.judged, [row.tokens for row in scored.judged])
    parts = {f"{name} tokens": list(bucket) for name, bucket in lengths.items()}
    parts |= {how: part.judged for how, part in harder.items()}
    return {name: build_report(scored.evaluator, part, seed=seed) for name, part in parts.items()}


def _tell(outcome: _Outcome, title: str, html_path: Path | None, json_path: str | None) -> None:
    """Writes the page and the JSON, and prints what is not asked for on standard output."""
    report, scored = outcome.report, outcome.scored
    comparison = outcome.against(outcome.older)
    precision = outcome.against(outcome.other)
    if html_path is not None:
        page = render(
            report,
            scored.judged,
            scored.evaluator,
            title=title,
            slices=outcome.slices,
            comparison=comparison,
            precision=precision,
        )
        html_path.write_text(page, encoding="utf-8")
    written = json.dumps(_as_json(outcome, comparison, precision), indent=2)
    if json_path == "-":
        click.echo(written)
        return
    console = Console(highlight=False)
    print_report(report, console)
    click.echo(scored.cost)
    if refused := sum(len(file.refused) for file in outcome.files):
        click.echo(f"{refused} rows could not be read and were left out")
    if outcome.slices:
        print_slices(outcome.slices, console)
    if comparison is not None:
        print_comparison(comparison, "the older model", console)
    if precision is not None and outcome.other is not None:
        print_comparison(precision, f"{outcome.other.runtime}", console)
    if json_path is not None:
        Path(json_path).write_text(written + "\n", encoding="utf-8")


def _as_json(
    outcome: _Outcome, comparison: Comparison | None, precision: Comparison | None
) -> dict[str, Any]:
    scored = outcome.scored
    said = outcome.report.to_json() | {
        "task": outcome.task,
        "model": scored.origin,
        "data": [file.origin | {"refused": len(file.refused)} for file in outcome.files],
    }
    if outcome.slices is not None:
        said["slices"] = {name: part.to_json() for name, part in outcome.slices.items()}
    for name, found, other in (
        ("comparison", comparison, outcome.older),
        ("precision", precision, outcome.other),
    ):
        if found is not None and other is not None:
            said[name] = found.to_json() | {"old": other.origin, "new": scored.origin}
    return said
