"""`xlmr drift reference`: what a version's traffic will be held against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from xlmr.cli.drift_closer import keep_vectors
from xlmr.cli.drift_place import opened_drift
from xlmr.cli.knobs import knobs
from xlmr.cli.moments import moment_us
from xlmr.cli.progress import TokenBar
from xlmr.cli.rows import read_rows, row_options
from xlmr.drift.keeping import HOUR_S, DriftStore, Watched
from xlmr.drift.reference import (
    REFERENCE_FILE,
    Expected,
    Judged,
    Reference,
    freeze,
    read_reference,
    write_reference,
)
from xlmr.drift.seeing import sight_of
from xlmr.drift.signals import EDGES, Sight, Signals
from xlmr.errors import DataError
from xlmr.evaluation.tasks import TASKS
from xlmr.model.predictor import Predictor, load
from xlmr.settings import Settings
from xlmr.text.language import identify_many

_HOUR_US = HOUR_S * 1_000_000
_FOREVER = 1 << 30
_TOGETHER = 64
_KNOBS = (
    "runtime", "precision", "threads", "drift", "feedback", "feedback_policy", "pseudonym_key"
)  # fmt: skip


@click.command("reference")
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@row_options("Labelled rows that neither training nor calibration saw.", required=False)
@click.option(
    "--source",
    default="held-out",
    show_default=True,
    help="Which rows these are, in a word.",
)
@click.option(
    "--mix", is_flag=True, help="Languages are as frequent as in traffic: watch that as well."
)
@click.option(
    "--from-records",
    "served",
    metavar="NAME@VERSION",
    help="Instead: what the drift store counted of this version, as in its first days.",
)
@click.option("--since", metavar="TIME", help="Of that, from then on (ISO 8601).")
@click.option("--until", metavar="TIME", help="Of that, before then (ISO 8601).")
@click.option(
    "--vectors", is_flag=True, help="Also keep vectors of the rows, redacted, for a closer look."
)
@click.option("--replace", is_flag=True, help="Also where there is one: its watch starts anew.")
@knobs(*_KNOBS)
def reference_command(
    model: Path,
    unknown_labels: str,
    source: str,
    mix: bool,
    served: str | None,
    since: str | None,
    until: str | None,
    vectors: bool,
    replace: bool,
    **given: Any,
) -> None:
    """Write drift-reference.json into MODEL, before it is released.

    The rows are answered by the model itself; what it says of them, and how often it is right, is
    what traffic will be held against. They count under the language that a server would identify.

    Best is real traffic: what is unlike it from the first day on alarms on the first day.
    --from-records takes what a version was asked, mix of languages included; what an older
    reference of MODEL knows of right answers is kept.
    """
    settings = Settings.from_environment(**{name: given.pop(name) for name in _KNOBS})
    if (given["data"] is None) == (served is None) or (vectors and served is not None):
        raise click.UsageError("say either --data or --from-records; --vectors needs --data")
    before = read_reference(model)
    if before is not None and not replace:
        raise DataError(
            f"{model}: it has a reference already, of {before.source} rows",
            hint="a released version's stays as it is; --replace writes another",
        )
    if served is not None:
        made = _of_records(settings, served, since, until, before)
    else:
        made = _of_rows(model, settings, given, unknown_labels, source, mix=mix, vectors=vectors)
    try:
        write_reference(made, model)
    except OSError as fault:
        raise DataError(f"{model / REFERENCE_FILE}: {fault.strerror}") from None
    rows = {name: expected.sketch.rows for name, expected in made.languages.items()}
    few = sorted(name for name, count in rows.items() if count < 200)
    click.echo(f"{sum(rows.values()):,} rows of {len(rows)} languages: {model / REFERENCE_FILE}")
    if few:
        click.echo(f"fewer than 200 rows, so only great changes are found: {', '.join(few)}")


def _of_rows(
    model: Path,
    settings: Settings,
    data: dict[str, Any],
    unknown_labels: str,
    source: str,
    *,
    mix: bool,
    vectors: bool,
) -> Reference:
    """What the model says of labelled rows.

    Raises:
        DataError: rows at fault, or of a task without one right label.
    """
    from xlmr.evaluation.tasks.classify import all_labels, model_labels

    task, files = read_rows(model, settings, **data)
    if TASKS[task].module != "classify":
        raise DataError(
            f"{task}: only answers of one label are known to be right or wrong",
            hint="--from-records makes a reference for any task",
        )
    with load(model, settings=settings) as predictor, TokenBar("answering") as bar:
        all_labels(predictor, files, unknown_labels=unknown_labels)
        labels = model_labels(predictor, files)
        rows_read = [row for file in files for row in file.rows]
        seen = []
        for one in _seen(predictor, rows_read):
            seen.append(one)
            bar.advance(done=len(seen) / len(rows_read), tokens=one[1].tokens)
        if vectors:
            texts: dict[str, list[str]] = {}
            for (language, _, _), row in zip(seen, rows_read, strict=True):
                texts.setdefault(language, []).append(" ".join(row.input))
            keep_vectors(predictor, texts, model, settings)
    rows = Counter(language for language, *_ in seen) if mix else None
    truths = [row.label for row in rows_read]
    return freeze(seen, task="classify", labels=labels, source=source, mix=rows, truths=truths)


def _seen(predictor: Predictor, rows: Sequence[Any]) -> Iterator[tuple[str, Sight, bool]]:
    """Language, what is counted, and whether the answer is right."""
    for start in range(0, len(rows), _TOGETHER):
        chunk = rows[start : start + _TOGETHER]
        items = [row.input if len(row.input) > 1 else row.input[0] for row in chunk]
        languages = identify_many([" ".join(row.input) for row in chunk])
        answers = predictor.classify(items)
        for row, answer, identified in zip(chunk, answers, languages, strict=True):
            sight = sight_of(answer, sum(map(len, row.input)), "\n".join(row.input))
            yield answer.language or identified.code, sight, answer.label == row.label


def _of_records(
    settings: Settings,
    served: str,
    since: str | None,
    until: str | None,
    before: Reference | None,
) -> Reference:
    """What the drift store counted of a version.

    Raises:
        DataError: nothing of it.
    """
    first = moment_us(since) // _HOUR_US if since else 0
    last = moment_us(until) // _HOUR_US if until else _FOREVER
    model, _, version = served.partition("@")
    with opened_drift(settings) as store:
        known = [held.watched for held in store.held()]
        fitting = [each for each in known if (each.model, each.version) == (model, version)]
        if len(fitting) != 1:
            said = ", ".join(f"{each.model}@{each.version} ({each.task})" for each in known)
            raise DataError(
                f"{served}: {len(fitting)} tasks are counted of it", hint=f"counted: {said}"
            )
        signals = _counted(store, fitting[0], first, last)
    return _reference_of(signals, before)


def _counted(store: DriftStore, watched: Watched, first: int, last: int) -> Signals:
    """All hours that tell apart what the last one does."""
    hours = [signals for _, signals in store.hours(watched, None, first, last)]
    if not hours:
        raise DataError("nothing was counted in that time", hint="`xlmr drift status` shows when")
    found = hours[-1]
    for signals in hours[:-1]:
        if signals.labels == found.labels:
            found = found + signals
    return found


def _reference_of(signals: Signals, before: Reference | None) -> Reference:
    bins = len(EDGES["confidence"]) + 1
    unknown = Judged([0] * bins, [0] * bins, [0] * bins)
    judged = {} if before is None else {n: of.judged for n, of in before.languages.items()}
    if before is not None and before.labels != signals.labels:
        judged = {name: replace(known, confused=[]) for name, known in judged.items()}
    languages = {
        name: Expected(sketch, judged.get(name, unknown))
        for name, sketch in signals.languages.items()
    }
    mix = {name: sketch.rows for name, sketch in signals.languages.items()}
    return Reference(signals.task, "traffic", signals.labels, languages, mix)
