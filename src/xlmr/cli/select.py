"""`xlmr select`: which predictions to label next, written for whoever labels them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import click

from xlmr.cli.feedback_place import (
    DAY_US,
    json_option,
    opened,
    read_json,
    write_out,
)
from xlmr.cli.knobs import knobs
from xlmr.cli.moments import moment_us
from xlmr.errors import DataError, SettingsError
from xlmr.evaluation.near_duplicates import find_pairs
from xlmr.feedback.selected import Selected, add_selected, population, selected_among
from xlmr.feedback.store import Store, batches, microseconds
from xlmr.loop.labelling import FORMATS, Format, ToLabel, label_studio_interface, write_rows
from xlmr.loop.select import Candidate, Pick, Selection, doubt_of, select
from xlmr.loop.suspicion import Suspicion, read_suspicions

_WINDOW_DAYS = 30


@click.command("select")
@click.argument("name")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--version", default="", help="Only what this version answered.  [all]")
@click.option("--count", type=click.IntRange(min=1), default=200, show_default=True, help="Rows.")
@click.option(
    "--random",
    "random_part",
    type=click.FloatRange(min=0, max=1),
    default=0.2,
    show_default=True,
    help="Part of them that chance picks: what they say of accuracy is unbiased.",
)
@click.option(
    "--drift-report",
    "drift_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What `xlmr drift report --json` wrote: what drifted is asked first.",
)
@click.option("--since", metavar="TIME", help="Predictions from then on (ISO 8601).  [30 days ago]")
@click.option("--until", metavar="TIME", help="And before then.  [now]")
@click.option("--format", type=click.Choice(FORMATS), default="jsonl", show_default=True)
@click.option(
    "--suggest",
    is_flag=True,
    help="Show the predicted label, but not in the random part: quicker, and less independent.",
)
@click.option(
    "--without-text",
    is_flag=True,
    help="Also what was kept without its text, as ids and fingerprints.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Decides chance; keep it.  [0]")
@click.option("--force", is_flag=True, help="Replace OUT.")
@knobs("feedback")
@json_option
def select_command(
    name: str,
    out: Path,
    version: str,
    count: int,
    random_part: float,
    drift_path: Path | None,
    since: str | None,
    until: str | None,
    format: str,
    suggest: bool,
    without_text: bool,
    seed: int,
    force: bool,
    as_json: bool,
    **place: Any,
) -> None:
    """Write to OUT which predictions of NAME to label next.

    \b
      xlmr drift report router --json drift.json
      xlmr select router batch.json --format label-studio --drift-report drift.json
      xlmr feedback import labelled.json

    A part is picked by chance, with its probability beside each row: only that part says how right
    the model is. The rest are doubtful answers, most of them in the languages that drifted; equal
    and nearly equal texts are asked once. What was selected or labelled before is not asked again.

    In a directory OUT the file is named by NAME and the time. Texts are there only where the policy
    kept them (redacted). For Label Studio, OUT.xml is the labelling interface.
    """
    if out.is_dir():
        out = out / _file_name(name, cast(Format, format))
    if out.exists() and not force:
        raise SettingsError(f"{out} exists", hint="somebody may be labelling it; --force")
    suspicions = _suspicions(drift_path, name)
    now_us = microseconds()
    until_us = moment_us(until) if until else now_us
    since_us = moment_us(since) if since else until_us - _WINDOW_DAYS * DAY_US
    with opened(place) as store:
        meant = _Meant(store, name, version, since_us, until_us, texts=not without_text)
        size = meant.count()
        chosen = select(
            meant.candidates(),
            count=count,
            share=min(count * random_part / size, 1.0),
            seed=seed,
            suspicions=suspicions,
            near=find_pairs,
        )
        rows = [_row(pick, name, suggest=suggest) for pick in chosen.asked]
        write_out(out, write_rows(rows, cast(Format, format)))
        if format == "label-studio":
            interface = label_studio_interface(sorted(meant.labels))
            write_out(out.with_name(f"{out.name}.xml"), interface)
        add_selected(store, [_selected(pick, now_us) for pick in (*chosen.asked, *chosen.known)])
    said = _summary(chosen, size, suspicions) | {"out": str(out)}
    click.echo(json.dumps(said) if as_json else _in_words(said))


class _Meant:
    """The predictions of a window that may be labelled.

    Attributes:
        labels: that were among the likeliest; complete once all candidates were read.
    """

    def __init__(
        self, store: Store, model: str, version: str, since_us: int, until_us: int, *, texts: bool
    ) -> None:
        self.labels: set[str] = set()
        self._store, self._model, self._version, self._texts = store, model, version, texts
        self._since_us, self._until_us = since_us, until_us

    def count(self) -> int:
        """How many there are.

        Raises:
            DataError: none; says why.
        """
        found = self._population(texts=self._texts)
        if found:
            return found
        hint = "look with `xlmr feedback stats`; --since and --until say from when"
        if self._texts and (bare := self._population(texts=False)):
            raise DataError(
                f"{self._model}: none of {bare} predictions was kept with its text",
                hint="the policy says what is kept; --without-text writes ids and fingerprints",
            )
        raise DataError(f"{self._model}: no predicted labels in this window", hint=hint)

    def candidates(self) -> Iterator[Candidate]:
        """Each, with what is known of it."""
        meant = (
            record
            for record in self._store.records(since_us=self._since_us, until_us=self._until_us)
            if record.model == self._model
            and record.label
            and self._version in ("", record.version)
            and (record.text or not self._texts)
        )
        for batch in batches(self._store.with_feedback(meant)):
            asked = selected_among(self._store, [record.id for record, _ in batch])
            for record, said in batch:
                self.labels.update(record.probabilities)
                sources = {each.source for each in said}
                yield Candidate(
                    id=record.id,
                    at=record.at,
                    language=record.language,
                    label=record.label,
                    version=record.version,
                    confidence=record.confidence,
                    doubt=doubt_of(record.probabilities, record.confidence),
                    fingerprint=record.fingerprint,
                    text=record.text,
                    asked=record.id in asked,
                    labelled=bool(sources),
                    annotated="annotator" in sources,
                )

    def _population(self, *, texts: bool) -> int:
        return population(
            self._store,
            model=self._model,
            version=self._version,
            since_us=self._since_us,
            until_us=self._until_us,
            texts=texts,
        )


def _file_name(name: str, format: Format) -> str:
    suffix = "json" if format == "label-studio" else format
    return f"{name.replace('/', '-')}-{datetime.now(UTC):%Y%m%dT%H%M%S}.{suffix}"


def _suspicions(path: Path | None, model: str) -> Sequence[Suspicion]:
    if path is None:
        return ()
    return read_suspicions(read_json(path), model=model, origin=str(path))


def _row(pick: Pick, model: str, *, suggest: bool) -> ToLabel:
    candidate = pick.candidate
    # Whoever sees the model's answer tends to agree: never where accuracy is measured.
    shown = suggest and pick.reason != "random"
    return ToLabel(
        prediction=candidate.id,
        language=candidate.language,
        text=candidate.text,
        fingerprint=candidate.fingerprint,
        reason=pick.reason,
        inclusion=pick.inclusion or None,
        suggested=candidate.label if shown else "",
        score=candidate.confidence if shown else None,
        model=f"{model}@{candidate.version}",
    )


def _selected(pick: Pick, now_us: int) -> Selected:
    return Selected(prediction=pick.candidate.id, inclusion=pick.inclusion, at_us=now_us)


def _summary(chosen: Selection, size: int, suspicions: Sequence[Suspicion]) -> dict[str, Any]:
    languages = Counter(pick.candidate.language for pick in chosen.asked)
    return {
        "candidates": size,
        "asked": len(chosen.asked),
        "random": sum(pick.reason == "random" for pick in chosen.asked),
        "repeated": chosen.repeated,
        "languages": dict(sorted(languages.items(), key=lambda item: (-item[1], item[0]))),
        "drifted": [suspicion.language for suspicion in suspicions],
    }


def _in_words(said: dict[str, Any]) -> str:
    where = ", ".join(f"{language} {count}" for language, count in said["languages"].items())
    return (
        f"{said['asked']} of {said['candidates']} predictions are in {said['out']}: "
        f"{said['random']} by chance, {said['asked'] - said['random']} doubtful"
        f"{f' ({where})' if where else ''}"
    )
