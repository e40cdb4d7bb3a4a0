"""The page is well formed, complete in itself, escaped, and shows what the report says."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from xlmr.evaluation.compare import compare
from xlmr.evaluation.page import render
from xlmr.evaluation.report import build_report
from xlmr.evaluation.suites import MultiLabelRow, Row, ScoreRow
from xlmr.evaluation.tasks import Judged, Labelled, values_by_language
from xlmr.evaluation.tasks.classify import Classify
from xlmr.evaluation.tasks.multi_label import MultiLabel
from xlmr.evaluation.tasks.score import Score

NASTY = '<script>&"label'


def evaluator(labels: int = 3) -> Classify:
    names = [NASTY, *(f"label{i}" for i in range(1, labels))]
    return Classify(None, names)  # type: ignore[arg-type]  # nothing is predicted here


def judged(labels: int = 3) -> list[Judged]:
    names = evaluator(labels).labels
    found = []
    for language in ("en", "de", "sw"):
        for i in range(60):
            gold, given = names[i % labels], names[(i + i % 4 // 3) % labels]
            rest = (1 - (i % 10) / 10) / max(labels - 1, 1)
            shares_C = np.array([(i % 10) / 10 if name == given else rest for name in names])
            found.append(
                Judged(
                    row=Row(text="a secret text", label=gold, language=language, line=i),
                    outcome=Labelled(given, (i % 10) / 10, shares_C),
                    tokens=5 + i * 3,
                    truncated=i == 59,
                    values=(float(gold == given),),
                )
            )
    return found


def page(found: list[Judged], labels: int = 3) -> str:
    made = evaluator(labels)
    report, values = build_report(made, found), values_by_language(found)
    return render(
        report,
        found,
        made,
        title="router <1>",
        slices={"typos": report},
        comparison=compare(values, values, samples=20),
        precision=compare(values, values, samples=20),
    )


def parsed(html: str) -> ElementTree.Element:
    """The page as XML: it closes what it opens, apart from two `meta` in its head."""
    return ElementTree.fromstring(re.sub(r"<meta[^>]*>|<!doctype html>", "", html))


def test_it_closes_what_it_opens_and_names_each_picture() -> None:
    root = parsed(page(judged()))
    pictures = root.findall(".//svg")
    assert len(pictures) == 3
    assert all(picture.get("aria-label") for picture in pictures)
    titles = ["".join(head.itertext()) for head in root.findall(".//h2")]
    assert len(titles) == len(set(titles)) == 7


def test_it_fetches_nothing_and_runs_nothing() -> None:
    html = page(judged())
    assert not re.search(r"https?:|//\w|<script|<link|<img|@import|url\(|src=| on\w+=", html)


def test_no_text_and_no_label_unescaped() -> None:
    html = page(judged())
    assert "secret" not in html
    assert NASTY not in html
    assert "&lt;script&gt;&amp;&quot;label" in html
    assert "router &lt;1&gt;" in html


def test_bars_are_as_long_as_the_report_says() -> None:
    found = judged()
    report = build_report(evaluator(), found)
    svg = parsed(page(found)).findall(".//svg")[0]
    widths = [float(bar.get("width", "nan")) for bar in svg.findall("rect")]
    longest = 640 - 90 - 60
    assert widths == pytest.approx([s.value * longest for s in report.languages], abs=0.1)


def test_every_row_is_in_the_matrix() -> None:
    cells = re.findall(r"<td style=[^>]*>(\d+|·)</td>", page(judged()))
    assert len(cells) == 9
    assert sum(int(cell) for cell in cells if cell != "·") == 180


def test_many_labels_become_a_list_of_mistakes() -> None:
    html = page(judged(30), 30)
    assert "Commonest mistakes" in html
    assert "<td style=" not in html


def test_no_mistakes_are_said() -> None:
    row = Row(text="x", label="a", language="en", line=1)
    found = [Judged(row, Labelled("a", 1.0, np.array([1.0])), 3, False, (1.0,))]
    made = Classify(None, ["a"])  # type: ignore[arg-type]
    html = render(build_report(made, found), found, made, title="one")
    assert "No mistakes" in html
    assert "older model" not in html
    parsed(html)


def test_rows_that_were_cut_are_counted() -> None:
    assert "<th>Longer than the model reads</th><td>3 rows</td>" in page(judged())


def test_a_task_without_labels_has_bars_and_lengths_alone() -> None:
    made = Score(None)  # type: ignore[arg-type]
    found = [
        Judged(ScoreRow("x", i, "en", i), None, 5 + i * 9, False, (float(i), float(i * sign)))
        for sign, language in ((1, "en"), (-1, "de"))
        for i in range(9)
    ]
    found = [
        replace(row, row=replace(row.row, language="en" if i < 9 else "de"))
        for i, row in enumerate(found)
    ]
    html = render(build_report(made, found), found, made, title="stars")
    root = parsed(html)
    assert len(root.findall(".//svg")) == 2
    assert "matrix" not in html
    # A correlation below 0 has a bar of no width, and says so in figures.
    assert [float(bar.get("width", "nan")) for bar in root.findall(".//rect")] == [0.0, 490.0]
    assert "-1.000" in html


def test_figures_of_one_label_have_a_table_of_their_own() -> None:
    made = MultiLabel(None, ["angry", NASTY])  # type: ignore[arg-type]
    found = []
    for i in range(8):
        labels = (("angry",), (NASTY,))[i % 2]
        shares_C = np.array([0.9, 0.1] if i % 2 == 0 else [0.2, 0.6])
        row = MultiLabelRow("x", labels, "en", i)
        found.append(
            Judged(row, Labelled("angry", 0.9, shares_C, labels), 3, False, (1.0, 1.0, 1.0))
        )
    html = render(build_report(made, found), found, made, title="moods")
    assert "By label, mean over languages" in html
    assert "<th>angry</th><td>1.000</td>" in html
    assert NASTY not in html
    parsed(html)
