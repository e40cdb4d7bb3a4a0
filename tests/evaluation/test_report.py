"""A report says of every language what is true of it alone, and sums up what is true of all."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.errors import DataError
from xlmr.evaluation.metrics.draws import means
from xlmr.evaluation.report import Report, build_report
from xlmr.evaluation.suites import BitextRow, Row
from xlmr.evaluation.tasks import Judged, Labelled, values_by_language
from xlmr.evaluation.tasks.classify import Classify

LABELS = ("a", "b", "c")
outcomes = st.lists(
    st.tuples(
        st.sampled_from(["en", "de", "ja", "sw"]), st.sampled_from(LABELS), st.sampled_from(LABELS)
    ),
    min_size=1,
    max_size=40,
)
EVALUATOR = Classify(None, LABELS)  # type: ignore[arg-type]  # nothing is predicted here


def judged(rows: Sequence[tuple[str, str, str]]) -> list[Judged]:
    return [
        Judged(
            row=Row(text="x", label=gold, language=language, line=1),
            outcome=Labelled(label, 0.5, np.array([0.5 if n == label else 0.25 for n in LABELS])),
            tokens=3,
            truncated=gold == "c",
            values=(float(gold == label),),
        )
        for language, gold, label in rows
    ]


def report_of(rows: Sequence[tuple[str, str, str]], *, seed: int = 0) -> Report:
    return build_report(EVALUATOR, judged(rows), seed=seed)


@settings(max_examples=20, deadline=None)
@given(outcomes)
def test_the_summary_follows_from_the_languages(rows: list[tuple[str, str, str]]) -> None:
    report = report_of(rows)
    by_name = {score.language: score for score in report.languages}
    assert sum(score.n for score in report.languages) == report.n == len(rows)
    assert report.macro == pytest.approx(np.mean([s.value for s in by_name.values()]))
    assert report.worst_value == min(s.value for s in by_name.values())
    assert by_name[report.worst].value == report.worst_value
    values = [score.value for score in report.languages]
    assert values == sorted(values)
    assert report.truncated == sum(gold == "c" for _, gold, _ in rows)
    for name, value in report.more_macro.items():
        assert value == pytest.approx(np.mean([s.more[name] for s in by_name.values()]))
    for language, score in by_name.items():
        right = [gold == label for name, gold, label in rows if name == language]
        assert score.value == pytest.approx(np.mean(right))
        assert 0 <= score.low <= score.value <= score.high <= 1
        assert score.more["ece"] == pytest.approx(abs(0.5 - score.value))


@settings(max_examples=20, deadline=None)
@given(outcomes, outcomes)
def test_a_language_is_scored_alike_whatever_else_is_there(
    rows: list[tuple[str, str, str]], more: list[tuple[str, str, str]]
) -> None:
    alone = report_of([r for r in rows if r[0] == rows[0][0]])
    others = [r for r in more if r[0] != rows[0][0]]
    assert alone.languages[0] in report_of([*rows, *others]).languages


@given(outcomes)
@settings(max_examples=20, deadline=None)
def test_the_values_by_language_give_the_reports_figures(rows: list[tuple[str, str, str]]) -> None:
    values = values_by_language(judged(rows))
    found = {score.language: score.value for score in report_of(rows).languages}
    assert found == pytest.approx({language: each.mean() for language, each in values.items()})


def test_the_gap_to_english_is_to_the_mean_of_the_others() -> None:
    report = report_of([("en", "a", "a"), ("de", "a", "a"), ("de", "a", "b"), ("sw", "a", "b")])
    assert (report.english, report.gap_to_english) == (1.0, 0.75)
    assert report.macro == 0.5


def test_english_may_be_called_otherwise() -> None:
    rows = [("eng_Latn", "a", "a"), ("en-GB", "a", "b"), ("deu_Latn", "a", "b")]
    assert (report_of(rows).english, report_of(rows).gap_to_english) == (0.5, 0.5)


@pytest.mark.parametrize("language", ["en", "de"])
def test_without_english_or_without_others_there_is_no_gap(language: str) -> None:
    assert report_of([(language, "a", "a")]).gap_to_english is None


def test_the_seed_decides_the_intervals() -> None:
    rows = [("en", "a", "ab"[i % 2]) for i in range(30)]

    def intervals(seed: int) -> list[tuple[float, float]]:
        return [(score.low, score.high) for score in report_of(rows, seed=seed).languages]

    assert intervals(3) == intervals(3)
    assert any(intervals(0) != intervals(seed) for seed in range(1, 6))


def test_it_becomes_json_and_back() -> None:
    said = json.loads(json.dumps(report_of([("en", "a", "a"), ("de", "a", "b")]).to_json()))
    assert set(said) == set(Report.__dataclass_fields__)
    assert said["metric"] == "accuracy"
    assert said["languages"][0]["language"] == "de"
    assert set(said["languages"][0]["more"]) == {
        *("macro_f1", "ece", "ece_by_chance", "ece_beyond_chance", "brier")
    }


def test_the_script_is_that_of_the_key_or_of_the_texts() -> None:
    def script(language: str, text: str) -> str:
        row = Row(text=text, label="a", language=language, line=1)
        outcome = Labelled("a", 1.0, np.array([1.0, 0.0, 0.0]))
        found = build_report(EVALUATOR, [Judged(row, outcome, 3, False, (1.0,))])
        return found.languages[0].script

    assert script("zh-Hant", "我的包裹") == "Hant"
    assert script("ru", "Где моя посылка?") == "Cyrl"


def test_the_english_side_of_a_bitext_says_nothing_about_the_script() -> None:
    class Fake:
        metric = "bitext_accuracy"

        def figures(self, values_NK: np.ndarray, counts_SN: np.ndarray) -> np.ndarray:
            return means(values_NK, counts_SN)

        def more(self, judged: Sequence[Judged]) -> dict[str, float]:
            return {}

    row = BitextRow("Where is my parcel, please?", "посылка", "ru", 1)
    found = build_report(Fake(), [Judged(row, None, 3, False, (1.0, 1.0))])  # type: ignore[arg-type]
    assert found.languages[0].script == "Cyrl"


def test_nothing_cannot_be_reported() -> None:
    with pytest.raises(DataError, match="nothing to report"):
        build_report(EVALUATOR, [])
