"""`xlmr feedback`: what answers left behind: looked at, exported, redacted, erased."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import click
import rich
from rich.table import Table

from xlmr.cli.feedback_import import import_command
from xlmr.cli.feedback_place import DAY_US, json_option, opened, write_lines
from xlmr.cli.knobs import knobs
from xlmr.cli.moments import moment_us
from xlmr.errors import DataError
from xlmr.feedback.examples import examples_at
from xlmr.feedback.labels import CONFLICTS, Conflict
from xlmr.feedback.opening import (
    open_hasher,
    open_policy,
    open_pseudonyms,
    open_redactor,
)
from xlmr.feedback.store import Erasure, microseconds
from xlmr.feedback.upkeep import expire, held
from xlmr.settings import Settings


@click.group("feedback")
def feedback_command() -> None:
    """What answers left behind: predictions without their texts, and what people said of them.

    \b
      echo "Call me: +44 20 7946 0958" | xlmr feedback redact
      xlmr feedback stats --feedback feedback.db
      xlmr feedback export train.jsonl --feedback feedback.db --at 2024-03-05
      xlmr feedback import labelled.json --feedback feedback.db
      xlmr feedback export records/ --parquet --feedback feedback.db
      xlmr feedback erase customer-17 --feedback feedback.db

    Without a policy (--feedback-policy) no text is kept at all; with one, a redacted text.
    """


feedback_command.add_command(import_command)


@feedback_command.command()
@click.option("--language", help="Of the text (ISO 639).  [identified]")
@click.option("--restore", is_flag=True, help="Read placeholders again that the key made.")
@knobs("feedback_policy", "pseudonym_key")
@json_option
def redact(language: str | None, restore: bool, as_json: bool, **place: Any) -> None:
    """Show what would be kept of the text on standard input; nothing of it is stored.

    Personal data and secrets become typed placeholders, such as <EMAIL>. With a policy that wants
    pseudonyms they become such as the key reads again: `--restore` does.
    """
    settings = Settings.from_environment(**place)
    text = _standard_input()
    if restore:
        said = open_pseudonyms(settings).restore(text)
        click.echo(json.dumps({"text": said}, ensure_ascii=False) if as_json else said, nl=as_json)
        return
    redacted = open_redactor(settings, open_policy(settings))(text, language=language)
    if as_json:
        found = [{"kind": f.kind, "start": f.start, "end": f.end} for f in redacted.findings]
        click.echo(json.dumps({"text": redacted.text, "found": found}, ensure_ascii=False))
    else:
        click.echo(redacted.text, nl=False)


@feedback_command.command()
@knobs("feedback")
@json_option
def stats(as_json: bool, **place: Any) -> None:
    """Count predictions, kept texts and answers by model, version and language."""
    with opened(place) as store:
        rows = [asdict(row) for row in held(store)]
        erasures = store.erasures()
    if as_json:
        click.echo(json.dumps({"held": rows, "erasures": erasures}, indent=2))
    elif not rows:
        click.echo("no records yet")
    else:
        table = Table(*rows[0])
        for row in rows:
            table.add_row(*(str(value) for value in row.values()))
        rich.print(table)


@feedback_command.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--parquet", is_flag=True, help="All records, as OUT/day=YYYY-MM-DD/records.parquet.")
@click.option("--at", "moment", metavar="TIME", help="Only what was known then (ISO 8601).  [now]")
@click.option("--since", metavar="TIME", help="Only predictions from then on (ISO 8601).")
@click.option("--model", default="", help="Only predictions of this one; not with --parquet.")
@click.option(
    "--conflict",
    type=click.Choice(CONFLICTS),
    default="priority",
    show_default=True,
    help="Who is right where people disagree: the last, the best source, or most.",
)
@knobs("feedback")
@json_option
def export(
    out: Path,
    parquet: bool,
    moment: str | None,
    since: str | None,
    model: str,
    conflict: str,
    as_json: bool,
    **place: Any,
) -> None:
    """Write texts with the labels people gave them to OUT, as JSON lines to train on.

    With --at it writes what it would have written then: later corrections do not leak in. With
    --parquet it writes every record, with or without text; whole days (UTC), each anew.
    """
    if parquet and model:
        raise click.UsageError("--parquet writes the records of all models")
    at_us = moment_us(moment) if moment else microseconds()
    since_us = moment_us(since) if since else 0
    with opened(place) as store:
        if parquet:
            from xlmr.feedback.parquet import write_days

            first = since_us // DAY_US * DAY_US
            days = write_days(store.records(since_us=first, until_us=at_us), out)
            said: dict[str, Any] = {"records": sum(days.values()), "days": days}
            text = f"{said['records']} records of {len(days)} days are in {out}"
        else:
            rows = examples_at(
                store, at_us, conflict=cast(Conflict, conflict), since_us=since_us, model=model
            )
            lines = (json.dumps(asdict(row), ensure_ascii=False) for row in rows)
            said = {"examples": write_lines(out, lines)}
            text = f"{said['examples']} labelled texts are in {out}"
    click.echo(json.dumps(said) if as_json else text)


@feedback_command.command()
@click.argument("subject")
@click.option(
    "--exported",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="Also from what `export --parquet` wrote there.",
)
@knobs("feedback", "feedback_key")
@json_option
def erase(subject: str, exported: tuple[Path, ...], as_json: bool, **place: Any) -> None:
    """Erase whatever SUBJECT's texts left, and what SUBJECT said; then look that nothing is left.

    SUBJECT is the key that came with the requests; it is stored nowhere, only its hash under
    XLMR_FEEDBACK_KEY. A server may hold records of the last second: run it again a minute later.
    """
    person = open_hasher(Settings.from_environment(**place)).person(subject)
    with opened(place) as store:
        done = store.erase(person)
    said = asdict(done)
    if exported:
        from xlmr.feedback.parquet import erase_from

        said["exported"] = sum(erase_from(directory, person) for directory in exported)
    click.echo(json.dumps(said) if as_json else _erased(done, said.get("exported")))
    if done.left or not done.scrubbed:
        raise SystemExit(1)


@feedback_command.command("expire")
@knobs("feedback", "feedback_policy")
@json_option
def expire_(as_json: bool, **place: Any) -> None:
    """Remove records and texts that have outlived their class in the policy; run it every day."""
    policy = open_policy(Settings.from_environment(**place))
    with opened(place) as store:
        gone = expire(store, policy, microseconds())
    text = f"removed {gone.records} records, {gone.feedback} pieces of feedback, {gone.texts} texts"
    click.echo(json.dumps(asdict(gone)) if as_json else text)


def _erased(done: Erasure, exported: int | None) -> str:
    said = f"erased {done.records} records and {done.feedback} pieces of feedback"
    said += f", and {exported} records from exports" if exported is not None else ""
    if done.left:
        return f"{said}; {done.left} have come since: run it again"
    if not done.scrubbed:
        return f"{said}; somebody is reading, so the file still holds them: run it again"
    return f"{said}; nothing is left"


def _standard_input() -> str:
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise DataError(f"standard input: not UTF-8 at byte {fault.start}") from None
