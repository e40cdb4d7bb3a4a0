"""Real data sets of every task are readable. They lie beside the repository, never in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xlmr.errors import DataError
from xlmr.evaluation.suites import (
    ANSWER,
    BITEXT,
    CLASSIFY,
    INFER,
    PARAPHRASE,
    PLAIN_TEXT,
    RANK,
    SIMILARITY,
    TAG,
    Schema,
    read_file,
)

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
if not DATA.is_dir():
    pytest.skip("no ../shared/data beside the repository", allow_module_level=True)

SCHEMAS: dict[str, Schema[Any]] = {
    "faq": RANK.with_columns(query="question", positive="answer"),
    "intent": CLASSIFY,
    "lid": CLASSIFY,
    "ner": TAG,
    "nli": INFER,
    "paraphrase": PARAPHRASE,
    "qa": ANSWER,
    "raw": PLAIN_TEXT,
    "retrieval": BITEXT,
    "sentiment": CLASSIFY,
    "sts": SIMILARITY,
    "topic": CLASSIFY,
    "toxicity": CLASSIFY,
}
# Rows with blanks or null where a text should stand: refused, or left out where that is asked for.
FAULTY = {
    "faq/covidfaq_jhu/en.all.jsonl": 3,
    "toxicity/russe_detox_pairs/ru.train.jsonl": 6,
}
FOLDERS = sorted(path for path in DATA.glob("*/*") if path.is_dir())


def test_there_is_a_schema_for_every_folder() -> None:
    assert {path.parent.name for path in FOLDERS} == SCHEMAS.keys()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_file_is_read_whole(folder: Path) -> None:
    schema = SCHEMAS[folder.parent.name]
    for path in sorted(folder.iterdir()):
        refused = FAULTY.get(str(path.relative_to(DATA)), 0)
        file = read_file(path, schema, faults="skip" if refused else "stop")
        lines = sum(1 for line in path.read_bytes().split(b"\n") if line.strip())
        counts = len(file.rows), file.duplicates, refused  # so that no failure prints the rows
        assert sum(counts) == lines, path
        assert len(file.refused) == refused
        assert {row.language for row in file.rows} == {path.name.split(".")[0]}


@pytest.mark.parametrize("name", sorted(FAULTY))
def test_rows_at_fault_stop_the_reading_unless_asked_otherwise(name: str) -> None:
    with pytest.raises(DataError, match=r"\d: \w+: expected text, got"):
        read_file(DATA / name, SCHEMAS[name.split("/")[0]])


def test_tags_that_continue_nothing_are_counted() -> None:
    files = [read_file(path, TAG) for path in sorted((DATA / "ner" / "uner").iterdir())]
    assert sum(row.orphans for file in files for row in file.rows) > 0
