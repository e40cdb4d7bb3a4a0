"""`xlmr feedback import`: what annotators say of selected predictions, taken into the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from xlmr.cli.feedback_place import json_option, opened
from xlmr.cli.knobs import knobs
from xlmr.errors import DataError
from xlmr.feedback.labels import Feedback
from xlmr.feedback.opening import open_hasher
from xlmr.feedback.selected import selected_among
from xlmr.loop.labelling import read_answers
from xlmr.settings import Settings


@click.command("import")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@knobs("feedback", "feedback_key")
@json_option
def import_command(path: Path, as_json: bool, **place: Any) -> None:
    """Take labels out of FILE into the store, as an annotator's.

    FILE is what `xlmr select` wrote, with its column `label` filled in (JSON lines or CSV), or an
    export of Label Studio: JSON, JSON_MIN, CSV or TSV. Rows without a label are left out; the same
    file again changes nothing.

    Who labelled is kept as a hash under XLMR_FEEDBACK_KEY; without the key it is not kept.
    """
    answers, empty = read_answers(_content(path), origin=str(path))
    settings = Settings.from_environment(**place)
    hasher = open_hasher(settings) if settings.feedback_key else None
    feedback = [
        Feedback(
            prediction=answer.prediction,
            label=answer.label,
            who=hasher.person(answer.who) if hasher is not None and answer.who else "",
            source="annotator",
            said_us=answer.said_us,
        )
        for answer in answers
    ]
    with opened(place) as store:
        ids = [answer.prediction for answer in answers]
        asked = selected_among(store, ids)
        new = store.add_feedback(feedback)
    unasked = sum(answer.prediction not in asked for answer in answers)
    said = {"labels": len(answers), "new": new, "empty": empty, "not_asked": unasked}
    click.echo(json.dumps(said) if as_json else _in_words(said))


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as fault:
        raise DataError(f"{path}: {fault.strerror}") from None
    except UnicodeDecodeError as fault:
        raise DataError(f"{path}: not UTF-8 at byte {fault.start}") from None


def _in_words(said: dict[str, int]) -> str:
    text = f"{said['new']} of {said['labels']} labels are new"
    text += f"; {said['empty']} rows have none" if said["empty"] else ""
    if said["not_asked"]:
        text += f"; {said['not_asked']} are on predictions that nobody selected"
    return text
