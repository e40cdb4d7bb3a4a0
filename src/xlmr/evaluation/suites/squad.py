"""SQuAD's JSON, versions 1 and 2: articles hold paragraphs, paragraphs hold questions.

Faults are placed by their way through the file (`data[2].paragraphs[0].qas[7].question`), since
such files are often a single line. A row's line is the number of the question, from 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xlmr.errors import DataError
from xlmr.evaluation.suites.record import Record, kind, parse_json


def squad_records(path: Path, content: str) -> Iterator[Record]:
    """The questions of a file, as `id`, `question`, `context` and `answers`.

    Raises:
        DataError: the file is not JSON, or not of SQuAD's shape.
    """
    if not content.strip():
        return
    root = parse_json(path, 1, content)
    if not isinstance(root, dict):
        raise DataError(f"{path}: expected an object, got {kind(root)}")
    number = 0
    for article in _children(Record(path, 1, root), "data"):
        for paragraph in _children(article, "paragraphs"):
            for question in _children(paragraph, "qas"):
                number += 1
                yield Record(path, number, _values(paragraph, question), within=question.within)


def _values(paragraph: Record, question: Record) -> dict[str, object]:
    values = {"context": paragraph.value("context"), "question": question.value("question")}
    values["id"] = question.values.get("id", "")
    # Version 2 says so where a context holds no answer, and may list plausible wrong ones.
    impossible = question.values.get("is_impossible") is True
    values["answers"] = [] if impossible else question.value("answers")
    return values


def _children(parent: Record, column: str) -> Iterator[Record]:
    for i, value in enumerate(parent.items(column)):
        name = f"{column}[{i}]"
        if not isinstance(value, dict):
            raise parent.fault(name, f"expected an object, got {kind(value)}")
        yield Record(parent.path, parent.line, value, within=f"{parent.within}{name}.")
