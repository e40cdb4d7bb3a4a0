"""`xlmr gate`: whether a model may be released, and if not, why and where."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table as Grid

from xlmr.cli.knobs import knobs
from xlmr.cli.progress import TokenBar
from xlmr.cli.rows import Files, read_rows, row_options
from xlmr.errors import SettingsError
from xlmr.evaluation.compare import compare
from xlmr.evaluation.gate import (
    CHECKS,
    Check,
    Evidence,
    Policy,
    Refusal,
    Release,
    decide,
    expected_languages,
)
from xlmr.evaluation.golden import GoldenResult, check_golden, read_golden
from xlmr.evaluation.latency import Latency, measure_latency, spread_rows
from xlmr.evaluation.policy import make_policy
from xlmr.evaluation.report import Report, build_report
from xlmr.evaluation.tasks import (
    Evaluation,
    Evaluator,
    Judged,
    UnknownLabels,
    make_evaluator,
    values_by_language,
)
from xlmr.evaluation.translations import find_translations
from xlmr.registry.promotion import evidence_digest
from xlmr.settings import Settings

_LATENCY_ROWS = 200


@click.command("gate")
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@row_options(
    "Rows that neither model learned from or was calibrated on: a file, or a folder of "
    "LANGUAGE.SPLIT.jsonl."
)
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The live version, to be compared with row by row.",
)
@click.option("--first", is_flag=True, help="There is no live version: nothing to compare with.")
@click.option(
    "--policy",
    "policy_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML with a section for each check; `xlmr.evaluation.policy` shows one.",
)
@click.option(
    "--waive",
    "waived",
    type=click.Choice(CHECKS),
    multiple=True,
    help="A check that is not made; may be repeated. The decision says so.",
)
@click.option(
    "--p95-ms",
    type=click.FloatRange(min=0.0, min_open=True),
    help="Objective of the latency of one text.  [the policy's]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the bootstrap.")
@knobs("threads")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write decision, evidence and policy as JSON.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the same instead of tables.")
def gate_command(
    model: Path,
    against: Path | None,
    first: bool,
    policy_path: Path | None,
    waived: tuple[Check, ...],
    p95_ms: float | None,
    seed: int,
    threads: str | None,
    out: Path | None,
    as_json: bool,
    unknown_labels: UnknownLabels,
    **data: Any,
) -> None:
    """Decide whether a model may be released: exit status 0 if so, 1 if not.

    \b
      xlmr gate models/new --data data --against models/live --policy release.toml
      xlmr gate models/router --data examples/support/data --first --p95-ms 50

    Held against the policy: the difference to the live version, as a whole and in each language;
    whether probabilities are honest; what int8 loses to fp32; how long one text takes here; and
    whether golden inputs are answered as when the model was written. What was not measured is a
    reason not to release. All of it as the model will be served, in int8 on the native engine.
    """
    if first and against is not None:
        raise click.UsageError("--first says that there is nothing to be --against")
    no_live: tuple[Check, ...] = ("macro", "language") if first else ()
    policy = make_policy(
        _policy_values(policy_path),
        origin=str(policy_path or "policy"),
        waived=(*waived, *no_live),
        p95_ms=p95_ms,
    )
    settings = Settings.from_environment(threads=threads, precision="int8", runtime="native")
    task, files = read_rows(model, settings, **data)
    asked = _Asked(task, files, unknown_labels, seed)
    candidate = _measure(model, asked, settings, doing="scoring", checks=True)
    whole = _measure(model, asked, replace(settings, precision="fp32"), doing="scoring in fp32")
    live = None
    if against is not None:
        live = _measure(against, asked, settings, doing="scoring the live version")
    evidence = _evidence(candidate, whole, live, seed)
    decision = decide(evidence, policy)
    said = _as_json(decision, evidence, policy, candidate, live, files, task)
    written = json.dumps(said, indent=2)
    if out is not None:
        out.write_text(written + "\n", encoding="utf-8")
    if as_json:
        click.echo(written)
    else:
        _print(decision, evidence, policy, candidate, Console(highlight=False))
    if isinstance(decision, Refusal):
        sys.exit(1)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What every model is asked."""

    task: str
    files: Files
    unknown_labels: UnknownLabels
    seed: int


@dataclass(frozen=True, slots=True)
class _Measured:
    """A model's answers to every row, and what else was tried of it."""

    digest: str
    runtime: str
    evaluator: Evaluator
    judged: list[Judged]
    report: Report
    latency: Latency | None
    golden: GoldenResult | None


def _policy_values(path: Path | None) -> Mapping[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise SettingsError(f"{path}: no such policy") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise SettingsError(f"{path}: not TOML: {fault}") from None


def _measure(
    model: Path, asked: _Asked, settings: Settings, *, doing: str, checks: bool = False
) -> _Measured:
    """Scores a model; with `checks`, its latency and golden inputs as well."""
    from xlmr.model.predictor import load

    rows = sum(len(file.rows) for file in asked.files)
    with load(model, settings=settings) as predictor, TokenBar(doing) as bar:
        evaluator = make_evaluator(
            asked.task,
            predictor,
            asked.files,
            seed=asked.seed,
            unknown_labels=asked.unknown_labels,
        )
        evaluation = Evaluation(evaluator, asked.files)
        for done, answer in enumerate(evaluation, start=1):
            bar.advance(done=done / rows, tokens=answer.tokens)
        latency, result = None, None
        if checks:
            latency = measure_latency(evaluator, spread_rows(asked.files, _LATENCY_ROWS))
            golden = read_golden(model)
            if golden is not None:
                result = check_golden(predictor, golden, precision=settings.precision)
        return _Measured(
            digest=predictor.bundle.digest,
            runtime=predictor.runtime.name,
            evaluator=evaluator,
            judged=evaluation.judged,
            report=build_report(evaluator, evaluation.judged, seed=asked.seed),
            latency=latency,
            golden=result,
        )


def _evidence(
    candidate: _Measured, whole: _Measured, live: _Measured | None, seed: int
) -> Evidence:
    in_full = {score.language: score.value for score in whole.report.languages}
    scores = candidate.report.languages
    comparison = None
    if live is not None:
        comparison = compare(
            values_by_language(live.judged),
            values_by_language(candidate.judged),
            metric=candidate.report.metric,
            figures=candidate.evaluator.figures,
            translations=find_translations([row.row for row in candidate.judged]),
            seed=seed,
        )
    return Evidence(
        comparison=comparison,
        ece={score.language: score.more["ece"] for score in scores if "ece" in score.more},
        int8_loss={score.language: in_full[score.language] - score.value for score in scores},
        p95_ms=candidate.latency.p95_ms if candidate.latency else None,
        golden_unchanged=candidate.golden.unchanged if candidate.golden else None,
    )


def _as_json(
    decision: Release | Refusal,
    evidence: Evidence,
    policy: Policy,
    candidate: _Measured,
    live: _Measured | None,
    files: Files,
    task: str,
) -> dict[str, Any]:
    """The decision with all it rests on, and a digest of both."""
    compared = evidence.comparison
    held = {
        "comparison": compared.to_json() if compared is not None else None,
        "ece": dict(evidence.ece),
        "int8_loss": dict(evidence.int8_loss),
        "latency": candidate.latency.to_json() if candidate.latency else None,
        "golden": asdict(candidate.golden) if candidate.golden else None,
    }
    said = {
        "decision": decision.to_json(),
        "task": task,
        "model": {"digest": candidate.digest, "runtime": candidate.runtime},
        "live": {"digest": live.digest, "runtime": live.runtime} if live else None,
        "data": [file.origin | {"refused": len(file.refused)} for file in files],
        "evidence": held,
        "policy": asdict(policy) | {"waived": sorted(policy.waived)},
    }
    return {"digest": evidence_digest(said), **said}


def _print(
    decision: Release | Refusal,
    evidence: Evidence,
    policy: Policy,
    candidate: _Measured,
    console: Console,
) -> None:
    """A line for each language, then the verdict with its reasons."""
    compared = evidence.comparison.languages if evidence.comparison is not None else {}
    scores = {score.language: score for score in candidate.report.languages}
    grid = Grid("language", box=None, pad_edge=False)
    for heading in ("n", candidate.report.metric, "against live", "ECE", "int8 loss"):
        grid.add_column(heading, justify="right")
    for language in expected_languages(evidence, policy):
        score, found = scores.get(language), compared.get(language)
        grid.add_row(
            language,
            str(score.n) if score else "–",
            f"{score.value:.3f}" if score else "–",
            f"{found.difference * 100.0:+.1f}" if found else "–",
            f"{evidence.ece[language]:.3f}" if language in evidence.ece else "–",
            f"{evidence.int8_loss[language] * 100.0:+.2f}"
            if language in evidence.int8_loss
            else "–",
        )
    console.print(grid)
    console.print()
    if candidate.latency is not None:
        latency = candidate.latency
        console.print(f"one text: p50 {latency.p50_ms:.1f} ms, p95 {latency.p95_ms:.1f} ms")
    if candidate.golden is not None:
        golden = candidate.golden
        console.print(f"golden inputs: {golden.inputs - len(golden.moved)} of {golden.inputs} kept")
        for moved in golden.moved:
            off, allowed = moved.distance, moved.tolerance
            console.print(f"  {moved.name}: {off:.3f} off, {allowed:.3f} allowed")
    waived = ", ".join(check for check in CHECKS if check in policy.waived)
    if isinstance(decision, Release):
        console.print(f"released{f'; not checked: {waived}' if waived else ''}")
        return
    console.print(f"refused{f'; not checked: {waived}' if waived else ''}")
    for reason in decision.reasons:
        console.print(f"  {reason.check}: {reason.message}")
