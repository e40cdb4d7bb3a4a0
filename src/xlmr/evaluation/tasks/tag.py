"""Tagging. Figure: F1 over spans, strict: label and both ends right, in words, IOB2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xlmr.errors import DataError
from xlmr.evaluation.metrics.draws import f1_of_counts
from xlmr.evaluation.metrics.spans import Span, span_counts, span_report, spans_of
from xlmr.evaluation.suites import Table
from xlmr.evaluation.suites.spans import tags_of_entities
from xlmr.evaluation.tasks.evaluator import Answered, Floats, Judged, answered, chunks
from xlmr.model.heads.labels import parse_labels
from xlmr.model.predictor import Predictor

Spans = frozenset[Span]


def make(predictor: Predictor, files: Sequence[Table[Any]], *, seed: int) -> Tag:
    """See the module. Labels that the model never gives count as missed.

    Raises:
        DataError: the model gives none of the labels that the rows have.
    """
    known = {
        label.partition("-")[2] or label for label in parse_labels(predictor.bundle.raw_config)
    }
    marked = {entity.label for file in files for row in file.rows for entity in row.entities}
    if marked and not marked & known:
        raise DataError(
            f"{files[0].path}: the model marks none of {', '.join(sorted(marked)[:20])}",
            hint=f"it marks {', '.join(sorted(known - {'O'})[:20])}",
        )
    return Tag(predictor)


class Tag:
    """Values: hits, gold and given spans of the row."""

    metric = "span_f1"
    keeps_outcomes = True

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def answers(self, rows: Sequence[Any]) -> Iterator[Answered]:
        """Gold and given spans, in words of the row."""
        for chunk in chunks(rows):
            # A word beyond the model's length would be missed however good the model is.
            answers = self._predictor.tag([row.text for row in chunk], long="window")
            for row, answer in zip(chunk, answers, strict=True):
                given = spans_of(tags_of_entities(row.words, answer.entities))
                yield answered(row, (spans_of(row.tags), given), answer.accounting)

    def values(self, answered: Sequence[Answered]) -> Floats:
        """Hits, gold and given, [N, 3]."""
        return span_counts(*_sides(answered)).astype(float)

    def figures(self, values_NK: Floats, counts_SN: Floats) -> Floats:
        """Micro F1; 0 where there is no span on either side."""
        return f1_of_counts(values_NK, counts_SN)

    def more(self, judged: Sequence[Judged]) -> Mapping[str, float]:
        """Precision and recall; the mean of the labels' F1, and that of each."""
        report = span_report(*_sides(judged))
        return {
            "precision": report.micro.precision,
            "recall": report.micro.recall,
            "macro_f1": report.macro_f1,
        } | {f"f1:{label}": score.f1 for label, score in report.by_label.items()}


def _sides(rows: Sequence[Answered | Judged]) -> tuple[list[Spans], list[Spans]]:
    return [row.outcome[0] for row in rows], [row.outcome[1] for row in rows]
