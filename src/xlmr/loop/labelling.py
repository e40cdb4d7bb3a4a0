"""Rows to label, and the answers: JSON lines, CSV, Label Studio's JSON. Pure: strings in and out.

In Label Studio a row is a task whose `data` holds the prediction's id, which every export of it
gives back: its JSON (tasks with annotations), JSON_MIN, CSV and TSV are read.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

from xlmr.errors import DataError
from xlmr.moment import microseconds_of, read_moment

Format = Literal["jsonl", "csv", "label-studio"]
FORMATS: tuple[Format, ...] = ("jsonl", "csv", "label-studio")
_COLUMNS = ("prediction", "language", "text", "fingerprint", "reason", "inclusion", "suggested")
# What a spreadsheet takes for a formula; an apostrophe before it keeps it a text.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_DELIMITERS = (",", ";", "\t")
_LONGEST_ID, _LONGEST_LABEL = 200, 1000
_NAME, _OBJECT = "label", "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToLabel:
    """A row for somebody to label.

    Attributes:
        prediction: its id.
        language: of the text.
        text: redacted; empty where none was kept.
        fingerprint: keyed hash of the text.
        reason: `random` or `doubtful`.
        inclusion: probability with which chance picked it; None for what chance did not pick.
        suggested: the predicted label, where it may be shown; else empty.
        score: how sure the model was of it.
        model: which version said so.
    """

    prediction: str
    language: str
    text: str
    fingerprint: str
    reason: str
    inclusion: float | None
    suggested: str = ""
    score: float | None = None
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What somebody says of a row.

    Attributes:
        prediction: its id.
        label: the right one.
        who: as the file names them; empty for nobody in particular.
        said_us: when, in microseconds since 1970 UTC; 0 where the file does not say.
    """

    prediction: str
    label: str
    who: str = ""
    said_us: int = 0


def write_rows(rows: Sequence[ToLabel], format: Format) -> str:
    """Rows as a file."""
    if format == "label-studio":
        return json.dumps([_task(row) for row in rows], ensure_ascii=False, indent=1) + "\n"
    plain = [{name: asdict(row)[name] for name in _COLUMNS} | {"label": ""} for row in rows]
    if format == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in plain)
    file = io.StringIO()
    writer = csv.DictWriter(file, (*_COLUMNS, "label"), lineterminator="\n")
    writer.writeheader()
    for row in plain:
        safe = {k: _disarmed(v) if isinstance(v, str) else v for k, v in row.items()}
        writer.writerow(safe)
    return file.getvalue()


def label_studio_interface(labels: Iterable[str]) -> str:
    """The labelling interface that a Label Studio project of these rows needs, as XML."""
    choices = "\n".join(f"    <Choice value={quoteattr(label)}/>" for label in labels)
    return (
        f'<View>\n  <Text name="{_OBJECT}" value="${_OBJECT}"/>\n'
        f'  <Choices name="{_NAME}" toName="{_OBJECT}" choice="single" showInLine="true">\n'
        f"{choices}\n  </Choices>\n</View>\n"
    )


def read_answers(content: str, *, origin: str) -> tuple[list[Answer], int]:
    """Answers out of a file, and how many rows have none: not labelled yet, or skipped.

    Raises:
        DataError: it is none of the formats, or a row says what it cannot; names the row.
    """
    content = content.removeprefix("\ufeff")
    found: list[Answer] = []
    empty = 0
    for place, row in _rows(content, origin):
        answers = list(_answers(row, place))
        found += answers
        empty += not answers
    return found, empty


def _task(row: ToLabel) -> dict[str, Any]:
    data = {name: value for name, value in asdict(row).items() if name in _COLUMNS}
    suggested = data.pop("suggested")
    task: dict[str, Any] = {"data": data}
    if suggested:
        said = {
            "from_name": _NAME,
            "to_name": _OBJECT,
            "type": "choices",
            "value": {"choices": [suggested]},
        }
        prediction: dict[str, Any] = {"model_version": row.model, "result": [said]}
        if row.score is not None:
            prediction["score"] = row.score
        task["predictions"] = [prediction]
    return task


def _rows(content: str, origin: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row, and where it stands."""
    if content.lstrip().startswith("["):
        for number, row in enumerate(_json(content, origin), 1):
            yield f"{origin}: row {number}", _object(row, f"{origin}: row {number}")
    elif content.lstrip().startswith("{"):
        for number, line in enumerate(content.split("\n"), 1):
            if line.strip():
                place = f"{origin}:{number}"
                yield place, _object(_json(line, place), place)
    else:
        yield from _table(content, origin)


def _table(content: str, origin: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    head = content.partition("\n")[0]
    # Spreadsheets separate by what their country does not write numbers with.
    delimiter = max(_DELIMITERS, key=head.count)
    reader = csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter)
    columns = reader.fieldnames or ()
    if "label" not in columns or not {"prediction", "id"} & set(columns):
        raise DataError(
            f"{origin}: expected columns prediction and label",
            hint="`xlmr select` writes such files; fill the column label",
        )
    try:
        for row in reader:
            place = f"{origin}:{reader.line_num}"
            if None in row or None in row.values():
                raise DataError(f"{place}: more or fewer cells than the first line has")
            yield place, {name: value.strip() for name, value in row.items()}
    except csv.Error as fault:
        raise DataError(f"{origin}:{reader.line_num}: no CSV: {fault}") from None


def _answers(row: Mapping[str, Any], place: str) -> Iterator[Answer]:
    """What is said in a row: by several people where it is a task of Label Studio's."""
    if "annotations" not in row:
        label = _label(row.get("label"), place)
        if label:
            yield _answer(row, row, label, place)
        return
    data = _object(row.get("data"), f"{place}: data")
    for annotation in _list(row["annotations"], f"{place}: annotations"):
        said = _object(annotation, f"{place}: annotations")
        results = [
            _object(result, f"{place}: result") for result in _list(said.get("result"), place)
        ]
        chosen = [result for result in results if result.get("type") == "choices"]
        if said.get("was_cancelled") or not chosen:
            continue
        if len(chosen) > 1:
            raise DataError(f"{place}: an annotation with several choices: one was asked for")
        if label := _label(chosen[0].get("value"), place):
            yield _answer(data, said, label, place)


def _answer(data: Mapping[str, Any], said: Mapping[str, Any], label: str, place: str) -> Answer:
    prediction = data.get("prediction") or data.get("id")
    if not isinstance(prediction, str):
        raise DataError(f"{place}: prediction: expected the id that `xlmr select` wrote")
    if len(prediction) > _LONGEST_ID or len(label) > _LONGEST_LABEL:
        most = f"{_LONGEST_ID} characters, a label {_LONGEST_LABEL}"
        raise DataError(f"{place}: too long: an id has at most {most}")
    who = next((said[name] for name in ("completed_by", "annotator", "who") if said.get(name)), "")
    if isinstance(who, Mapping):
        who = who.get("email") or who.get("id") or ""
    when = next((said[name] for name in ("updated_at", "created_at", "at") if said.get(name)), "")
    return Answer(
        prediction=_armed(prediction),
        label=_armed(label),
        who=str(who),
        said_us=_moment(when, place),
    )


def _label(said: Any, place: str) -> str:
    """A label: as it stands, or Label Studio's `{"choices": [...]}`, also written in a cell."""
    if isinstance(said, str) and said.startswith('{"choices"'):
        said = _json(said, place)
    if isinstance(said, Mapping):
        said = _list(said.get("choices"), f"{place}: choices")
        if len(said) > 1:
            raise DataError(f"{place}: {len(said)} labels; one was asked for")
        said = said[0] if said else ""
    if said is None:
        return ""
    if not isinstance(said, str):
        raise DataError(f"{place}: label: expected a text")
    return said.strip()


def _moment(said: Any, place: str) -> int:
    if said == "":
        return 0
    try:
        return microseconds_of(read_moment(said))
    except (TypeError, ValueError):
        raise DataError(f"{place}: expected a time like 2024-03-05T14:30:00Z") from None


def _json(said: str, place: str) -> Any:
    try:
        return json.loads(said)
    except (json.JSONDecodeError, RecursionError):
        raise DataError(f"{place}: no JSON") from None


def _object(said: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(said, Mapping):
        raise DataError(f"{place}: expected an object")
    return said


def _list(said: Any, place: str) -> list[Any]:
    if not isinstance(said, list):
        raise DataError(f"{place}: expected a list")
    return said


def _disarmed(said: str) -> str:
    return f"'{said}" if said.startswith(_FORMULA) else said


def _armed(said: str) -> str:
    return said[1:] if said[:1] == "'" and said[1:].startswith(_FORMULA) else said
