"""A report says of every language what is true of it alone, and sums up what is true of all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.errors import DataError
from xlmr.evaluation.report import Predicted, Report, build_report, predict, right_by_language
from xlmr.evaluation.suites import Row, read_split
from xlmr.types import Accounting, Classification, LabelScore

LABELS = ("a", "b", "c")
outcomes = st.lists(
    st.tuples(
        st.sampled_from(["en", "de", "ja", "sw"]), st.sampled_from(LABELS), st.sampled_from(LABELS)
    ),
    min_size=1,
    max_size=40,
)


def predictions(rows: Sequence[tuple[str, str, str]]) -> list[Predicted]:
    return [
        Predicted(
            Row(text="x", label=gold, language=language, line=1), label=label, score=0.5, tokens=3
        )
        for language, gold, label in rows
    ]


@settings(max_examples=25, deadline=None)
@given(outcomes)
def test_the_summary_follows_from_the_languages(rows: list[tuple[str, str, str]]) -> None:
    report = build_report(predictions(rows))
    by_name = {score.language: score for score in report.languages}
    assert sum(score.n for score in report.languages) == report.n == len(rows)
    assert report.macro_accuracy == pytest.approx(np.mean([s.accuracy for s in by_name.values()]))
    assert report.worst_accuracy == min(s.accuracy for s in by_name.values())
    assert by_name[report.worst].accuracy == report.worst_accuracy
    accuracies = [score.accuracy for score in report.languages]
    assert accuracies == sorted(accuracies)
    for language, score in by_name.items():
        right = [gold == label for name, gold, label in rows if name == language]
        assert score.accuracy == pytest.approx(np.mean(right))
        assert 0 <= score.low <= score.accuracy <= score.high <= 1
        assert score.ece == pytest.approx(abs(0.5 - score.accuracy))


@settings(max_examples=25, deadline=None)
@given(outcomes, outcomes)
def test_a_language_is_scored_alike_whatever_else_is_there(
    rows: list[tuple[str, str, str]], more: list[tuple[str, str, str]]
) -> None:
    alone = build_report(predictions([r for r in rows if r[0] == rows[0][0]]))
    others = [r for r in more if r[0] != rows[0][0]]
    together = build_report(predictions([*rows, *others]))
    assert alone.languages[0] in together.languages


@given(outcomes)
def test_right_and_wrong_by_language_give_the_reports_accuracy(
    rows: list[tuple[str, str, str]],
) -> None:
    report = build_report(predictions(rows))
    right = right_by_language(predictions(rows))
    assert {score.language: score.accuracy for score in report.languages} == pytest.approx(
        {language: values.mean() for language, values in right.items()}
    )


def test_the_gap_to_english_is_to_the_mean_of_the_others() -> None:
    rows = [("en", "a", "a"), ("de", "a", "a"), ("de", "a", "b"), ("sw", "a", "b")]
    report = build_report(predictions(rows))
    assert (report.english_accuracy, report.gap_to_english) == (1.0, 0.75)
    assert report.macro_accuracy == 0.5


@pytest.mark.parametrize("language", ["en", "de"])
def test_without_english_or_without_others_there_is_no_gap(language: str) -> None:
    assert build_report(predictions([(language, "a", "a")])).gap_to_english is None


def test_the_seed_decides_the_intervals() -> None:
    rows = [("en", "a", "ab"[i % 2]) for i in range(30)]

    def intervals(seed: int) -> list[tuple[float, float]]:
        report = build_report(predictions(rows), seed=seed)
        return [(score.low, score.high) for score in report.languages]

    assert intervals(3) == intervals(3)
    assert any(intervals(0) != intervals(seed) for seed in range(1, 6))


def test_it_becomes_json_and_back() -> None:
    report = build_report(predictions([("en", "a", "a"), ("de", "a", "b")]))
    said = json.loads(json.dumps(report.to_json()))
    assert set(said) == set(Report.__dataclass_fields__)
    assert said["languages"][0]["language"] == "de"


def test_nothing_cannot_be_reported() -> None:
    with pytest.raises(DataError, match="nothing to report"):
        build_report([])


class _Echo:
    """Gives every text its own first word as label."""

    def classify(self, texts: Sequence[str], *, top: int | None = None) -> list[Classification]:
        accounting = Accounting(tokens=3, total_tokens=3, truncated=False, windows=1, unknown=0)
        return [
            Classification(
                labels=tuple(LabelScore(label, 0.5) for label in [text.split()[0], *LABELS][:top]),
                accounting=accounting,
            )
            for text in texts
        ]


def test_every_row_is_predicted_once_and_in_order(tmp_path: Path) -> None:
    rows = [
        {"text": f"{LABELS[i % 3]} {i}", "label": "a", "language": ("de", "en")[i % 2]}
        for i in range(150)
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    found = list(predict(_Echo(), read_split(path, "test")))
    assert [p.row.text for p in found] == [r["text"] for r in rows[::2] + rows[1::2]]
    assert all(p.label == p.row.text.split()[0] for p in found)


def test_a_label_the_model_cannot_give_is_an_error_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "en.test.jsonl"
    path.write_text('{"text": "a b", "label": "a"}\n{"text": "a c", "label": "nobody"}\n')
    with pytest.raises(DataError, match=r"en\.test\.jsonl:2: label: not among the model's 3"):
        next(predict(_Echo(), read_split(path, "test")))
