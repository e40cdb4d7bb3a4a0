"""Wrong labels are found where a confident model contradicts them, and told without the text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xlmr.errors import DataError
from xlmr.evaluation.label_errors import find_label_errors, write_label_errors
from xlmr.evaluation.suites import Row, ScoreRow, Table, by_language
from xlmr.evaluation.tasks import Judged, Labelled
from xlmr.evaluation.tasks.classify import Classify

pytest.importorskip("cleanlab")
LABELS = ("cancel", "delivery", "refund")


def rows(language: str, count: int = 60) -> list[Row]:
    """Row 7 of each language says `cancel` where everything says otherwise."""
    return [
        Row("a secret text", "cancel" if i == 7 else LABELS[i % 3], language, i + 1)
        for i in range(count)
    ]


def answered(row: Row) -> Judged:
    true = LABELS[(row.line - 1) % 3]
    shares_C = np.array([0.9 if label == true else 0.05 for label in LABELS], np.float32)
    return Judged(row, Labelled(true, 0.9, shares_C), 3, False, (float(true == row.label),))


def files() -> list[Table[Row]]:
    # Two files of one language, and the languages out of order.
    german, english = rows("de"), rows("en")
    parts = (("sw", rows("sw")), ("en", english[:30]), ("en2", english[30:]), ("de", german))
    return [Table(Path(f"/x/{name}.jsonl"), "", tuple(part), 0, 0) for name, part in parts]


def test_the_wrong_row_is_found_in_its_file_and_line() -> None:
    judged = [answered(row) for part in by_language(files()).values() for row in part]
    found = find_label_errors(Classify(None, LABELS), judged, files())  # type: ignore[arg-type]
    assert {(e.file, e.line, e.language) for e in found} == {
        ("de.jsonl", 8, "de"),
        ("en.jsonl", 8, "en"),
        ("sw.jsonl", 8, "sw"),
    }
    assert {(e.given, e.suggested) for e in found} == {("cancel", "delivery")}
    assert all(e.score == pytest.approx(0.05, abs=1e-3) for e in found)


def test_what_is_written_holds_no_text(tmp_path: Path) -> None:
    judged = [answered(row) for part in by_language(files()).values() for row in part]
    found = find_label_errors(Classify(None, LABELS), judged, files())  # type: ignore[arg-type]
    write_label_errors(tmp_path / "wrong.jsonl", found)
    said = (tmp_path / "wrong.jsonl").read_text()
    assert "secret" not in said
    first = json.loads(said.splitlines()[0])
    assert set(first) == {"file", "line", "language", "given", "suggested", "score"}
    assert len(said.splitlines()) == 3


def test_a_label_that_no_row_has_is_no_obstacle() -> None:
    part = [row for row in rows("en") if row.label != "refund"]
    found = find_label_errors(
        Classify(None, LABELS),  # type: ignore[arg-type]
        [answered(row) for row in part],
        [Table(Path("en.jsonl"), "", tuple(part), 0, 0)],
    )
    assert [error.line for error in found] == [8]


def test_rows_without_one_label_are_refused() -> None:
    row = Judged(ScoreRow("x", 1.0, "en", 1), None, 3, False, (1.0, 1.0))
    with pytest.raises(DataError, match="one label each"):
        find_label_errors(Classify(None, LABELS), [row], [])  # type: ignore[arg-type]
