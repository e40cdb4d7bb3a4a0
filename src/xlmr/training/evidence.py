"""A new model directory gains its evidence before anybody can see it: what it scores, how honest
its probabilities are, when it should say nothing, and golden inputs that tell whether it changed.

All of it is measured on the engine that will serve, in the formats it serves in, on rows the model
did not learn from. What depends on the machine's speed is given back and not written: the same data
and recipe must write the same directory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from xlmr.errors import EngineError, ModelRefusedError, SettingsError
from xlmr.evaluation.abstention import fit_abstention
from xlmr.evaluation.calibrate import (
    ENOUGH_ROWS,
    Floats,
    Honesty,
    Indices,
    as_choices,
    choose_temperatures,
    cross_fit,
    divisors,
    judge_temperatures,
    probabilities,
)
from xlmr.evaluation.golden import GOLDEN_FILE, make_golden
from xlmr.evaluation.latency import measure_latency, spread_rows
from xlmr.evaluation.model_card import license_of, render_card
from xlmr.evaluation.report import Report, build_report
from xlmr.evaluation.suites import Table, by_language
from xlmr.evaluation.tasks import TASKS, Evaluation, make_evaluator, skills_of
from xlmr.evaluation.tasks.classify import model_labels
from xlmr.evaluation.thresholds import fit_thresholds
from xlmr.model.bundle import Bundle, open_bundle
from xlmr.model.calibration import CALIBRATION_FILE, Abstention, Calibration, Target
from xlmr.model.predictor import Predictor
from xlmr.model.runtimes import open_runtime
from xlmr.training.checkpoint import CARD, XLMR_JSON, write_json
from xlmr.training.objectives import schema_of
from xlmr.training.recipe import Evidence, Recipe

# Fewer held-out rows say too little about probabilities.
LEAST_ROWS = 50
_LATENCY_ROWS = 100
_CHUNK_ROWS = 64
_SAMPLES = 200
_PRECISIONS = ("int8", "fp32")
_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was found.

    Attributes:
        report: for `xlmr.json`: the same for the same data, recipe and machine.
        scores: in int8, as `xlmr evaluate --json` gives them; None without rows.
        labels: what the model gives; empty where it gives no labels.
        timings: for the run's record.
    """

    report: dict[str, Any]
    scores: dict[str, Any] | None = None
    labels: tuple[str, ...] = ()
    timings: dict[str, Any] = field(default_factory=dict)


def add_evidence(
    directory: Path,
    *,
    files: Sequence[Table[Any]],
    task: str,
    settings: Evidence,
    batch_tokens: int = 4096,
    threads: int = 0,
) -> Gathered:
    """Writes `calibration.json` and `golden.json` into a model directory nobody uses yet.

    A model that the engine cannot compute is not held back: the report says what is missing.

    Args:
        directory: a whole model, `xlmr.json` included.
        files: rows it did not learn from; may be empty.
        task: how they are scored, a name of `xlmr.evaluation.tasks.TASKS`.
        settings: of the recipe.
        batch_tokens: most tokens of a batch.
        threads: compute threads; 0 for all the process may use.
    """
    bundle = open_bundle(directory)
    try:
        with contextlib.ExitStack() as stack:
            models = {
                precision: stack.enter_context(
                    _opened(bundle, precision, batch_tokens=batch_tokens, threads=threads)
                )
                for precision in _PRECISIONS
            }
            return _gather(directory, models, capped(files, settings.rows), task, settings)
    except (EngineError, ModelRefusedError, SettingsError) as fault:
        for name in (CALIBRATION_FILE, GOLDEN_FILE):
            (directory / name).unlink(missing_ok=True)
        return Gathered({"notes": [f"no evidence: {fault.message}"]})


def finish_with_evidence(
    directory: Path,
    content: Mapping[str, Any],
    *,
    encoder: Path,
    files: Sequence[Table[Any]],
    task: str,
    settings: Evidence,
    name: str = "",
) -> dict[str, Any]:
    """Adds evidence, the model card, and `xlmr.json` with what they say; gives the timings.

    Args:
        directory: see `add_evidence`.
        content: of `xlmr.json`, its `report` being what training says.
        encoder: the model directory that was started from.
        files: see `add_evidence`.
        task: see `add_evidence`.
        settings: see `add_evidence`.
        name: for the card; made from encoder and task where empty.
    """
    gathered = add_evidence(directory, files=files, task=task, settings=settings)
    report = {**content.get("report", {}), "evidence": gathered.report}
    write_json(directory / XLMR_JSON, {**content, "report": report})
    card = render_card(
        name=name or f"{encoder.resolve().name}-{task}",
        task=task,
        extras=content,
        report=gathered.scores,
        calibration=gathered.report.get("calibration", {}).get("languages", ()),
        labels=gathered.labels,
        license=_license(encoder / CARD),
    )
    (directory / CARD).write_text(card, encoding="utf-8")
    return gathered.timings


def _license(card: Path) -> dict[str, str]:
    """What the encoder's card says of its licence; nothing where there is none that can be read."""
    try:
        return license_of(card.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return {}


def evaluated_as(recipe: Recipe) -> str:
    """The name among `xlmr.evaluation.tasks.TASKS` by which a recipe's held-out rows are scored."""
    schema = schema_of(recipe)
    names = [name for name, task in TASKS.items() if task.schema is schema]
    return recipe.task if recipe.task in names else names[0]


def can_calibrate(files: Sequence[Table[Any]]) -> bool:
    """Whether there are rows enough to make probabilities honest."""
    return sum(len(file.rows) for file in files) >= LEAST_ROWS


def capped(files: Sequence[Table[Any]], most: int) -> tuple[Table[Any], ...]:
    """At most so many rows of each language, evenly through those it has."""
    sizes = {language: len(rows) for language, rows in by_language(files).items()}
    seen = dict.fromkeys(sizes, 0)
    kept = []
    for file in files:
        rows = []
        for row in file.rows:
            size, place = sizes[row.language], seen[row.language]
            seen[row.language] += 1
            least = min(most, size)
            if (place + 1) * least // size > place * least // size:
                rows.append(row)
        kept.append(replace(file, rows=tuple(rows)))
    return tuple(file for file in kept if file.rows)


@contextlib.contextmanager
def _opened(
    bundle: Bundle, precision: str, *, batch_tokens: int, threads: int
) -> Iterator[Predictor]:
    """The model on the engine; the weights that the engine prepares for itself are not kept."""
    before = set(bundle.directory.iterdir())
    try:
        runtime = open_runtime(
            bundle, precision=precision, batch_tokens=batch_tokens, threads=threads
        )
        with Predictor(bundle, runtime) as predictor:
            yield predictor
    finally:
        for path in set(bundle.directory.iterdir()) - before:
            if path.suffix == ".weights":
                path.unlink()


def _gather(
    directory: Path,
    models: Mapping[str, Predictor],
    files: Sequence[Table[Any]],
    task: str,
    settings: Evidence,
) -> Gathered:
    rows = sum(len(file.rows) for file in files)
    report: dict[str, Any] = {"rows": rows, "notes": []}
    skills = skills_of(models["int8"].bundle)
    if not skills & {"labels", "many labels"}:
        pass
    elif not can_calibrate(files):
        report["notes"].append(
            f"not calibrated: {rows} held-out rows, at least {LEAST_ROWS} needed"
            if rows
            else "not calibrated: there are no held-out rows"
        )
    else:
        calibration, judged = calibrate(models["int8"], files, settings)
        write_json(directory / CALIBRATION_FILE, calibration.to_json())
        report["calibration"] = _honesty(judged)
        fresh = open_bundle(directory)
        models = {name: Predictor(fresh, model.runtime) for name, model in models.items()}
    golden = make_golden(models["fp32"], {"int8": models["int8"]})
    write_json(directory / GOLDEN_FILE, golden.to_json())
    if not files:
        return Gathered(report)
    evaluators = {name: make_evaluator(task, model, files) for name, model in models.items()}
    scores = {}
    for precision, evaluator in evaluators.items():
        scores[precision] = build_report(evaluator, Evaluation(evaluator, files).run())
        report["metric"] = evaluator.metric
        report[precision] = _by_language(scores[precision])
    latency = measure_latency(evaluators["int8"], spread_rows(files, _LATENCY_ROWS))
    labels = model_labels(models["int8"], files) if "calibration" in report else ()
    timings = {"runtime": models["int8"].runtime.name} | latency.to_json()
    return Gathered(report, _said(scores["int8"], task, files), labels, {"latency": timings})


def _by_language(report: Report) -> dict[str, Any]:
    values = {score.language: round(score.value, _DECIMALS) for score in report.languages}
    return {"macro": round(report.macro, _DECIMALS), "languages": dict(sorted(values.items()))}


def _said(report: Report, task: str, files: Sequence[Table[Any]]) -> dict[str, Any]:
    """As `xlmr evaluate --json` says it."""
    said: dict[str, Any] = _short(report.to_json())
    return said | {"task": task, "data": [file.origin for file in files]}


def calibrate(
    predictor: Predictor, files: Sequence[Table[Any]], settings: Evidence
) -> tuple[Calibration, tuple[Honesty, ...]]:
    """What makes a classifier's scores honest, and how honest they are on rows it did not see.

    Args:
        predictor: the model; a calibration that it has already says nothing here.
        files: at least `LEAST_ROWS` rows.
        settings: risk and threshold targets.

    Raises:
        DataError: a label that the model cannot give.
    """
    labels = model_labels(predictor, files)
    rows = [row for file in files for row in file.rows]
    languages = [row.language for row in rows]
    logits_NC = _logits(predictor, rows, labels)
    if "many labels" in skills_of(predictor.bundle):
        gold_NC = np.array([[label in row.labels for label in labels] for row in rows])
        choices = as_choices(logits_NC, gold_NC, languages)
        temperatures = choose_temperatures(*choices)
        divided_NC = logits_NC / divisors(temperatures, languages)[:, None]
        thresholds = fit_thresholds(
            1.0 / (1.0 + np.exp(-divided_NC)),
            gold_NC,
            languages=languages,
            labels=labels,
            target=Target(settings.threshold, settings.threshold_value),
        )
        judged = judge_temperatures(cross_fit(*choices), *choices, samples=_SAMPLES)
        return Calibration(temperatures, thresholds), judged
    place = {label: i for i, label in enumerate(labels)}
    gold_N = np.array([place[row.label] for row in rows])
    temperatures = choose_temperatures(logits_NC, gold_N, languages)
    divisor_N = cross_fit(logits_NC, gold_N, languages)
    judged = judge_temperatures(divisor_N, logits_NC, gold_N, languages, samples=_SAMPLES)
    abstention = (
        _abstention(logits_NC / divisor_N[:, None], gold_N, languages, settings.risk)
        if settings.risk
        else {}
    )
    return Calibration(temperatures, None, abstention), judged


def _abstention(
    divided_NC: Floats, gold_N: Indices, languages: Sequence[str], risk: float
) -> dict[str, Abstention]:
    """By language where rows are enough, and for all together."""
    shown_NC = probabilities(divided_NC)
    sure_N, right_N = shown_NC.max(axis=1), shown_NC.argmax(axis=1) == gold_N
    language_N = np.array(languages)
    found = {"*": fit_abstention(sure_N, right_N, risk=risk)}
    for language in sorted(set(languages)):
        here_N = language_N == language
        if here_N.sum() >= ENOUGH_ROWS:
            found[language] = fit_abstention(sure_N[here_N], right_N[here_N], risk=risk)
    return found


def _logits(predictor: Predictor, rows: Sequence[Any], labels: Sequence[str]) -> Floats:
    """The head's outputs in the order of labels, [N, C]."""
    items = [row.input[0] if len(row.input) == 1 else row.input for row in rows]
    found = []
    for start in range(0, len(items), _CHUNK_ROWS):
        for answer in predictor.classify(items[start : start + _CHUNK_ROWS], raw_scores=True):
            scores = {label.label: label.score for label in answer.labels}
            found.append([scores[label] for label in labels])
    return np.array(found)


def _honesty(judged: Sequence[Honesty]) -> dict[str, Any]:
    """Judged on rows that no temperature came from; macro: every language counts the same."""
    return {
        "macro_ece_before": _mean([one.ece_before for one in judged]),
        "macro_ece_after": _mean([one.ece_after for one in judged]),
        "macro_ece_by_chance": _mean([one.ece_by_chance for one in judged]),
        "languages": [_short(one.to_json()) for one in judged],
    }


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), _DECIMALS)


def _short(value: Any) -> Any:
    """Numbers with as many decimals as anybody reads."""
    if isinstance(value, float):
        return round(value, _DECIMALS)
    if isinstance(value, dict):
        return {name: _short(each) for name, each in value.items()}
    return [_short(each) for each in value] if isinstance(value, list | tuple) else value
