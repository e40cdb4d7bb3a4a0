"""The page is well formed, complete in itself, escaped, and shows what the report says."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from xlmr.evaluation.compare import compare
from xlmr.evaluation.page import render
from xlmr.evaluation.report import Predicted, build_report, right_by_language
from xlmr.evaluation.suites import Row

NASTY = '<script>&"label'


def predictions(labels: int = 3) -> list[Predicted]:
    names = [NASTY, *(f"label{i}" for i in range(1, labels))]
    return [
        Predicted(
            Row(text="a secret text", label=names[i % labels], language=language, line=i),
            label=names[(i + i % 4 // 3) % labels],
            score=(i % 10) / 10,
            tokens=5 + i * 3,
        )
        for language in ("en", "de", "sw")
        for i in range(60)
    ]


def page(found: list[Predicted]) -> str:
    report, right = build_report(found), right_by_language(found)
    return render(
        report,
        found,
        title="router <1>",
        slices={"typos": report},
        comparison=compare(right, right, samples=20),
    )


def parsed(html: str) -> ElementTree.Element:
    """The page as XML: it closes what it opens, apart from two `meta` in its head."""
    return ElementTree.fromstring(re.sub(r"<meta[^>]*>|<!doctype html>", "", html))


def test_it_closes_what_it_opens_and_names_each_picture() -> None:
    root = parsed(page(predictions()))
    pictures = root.findall(".//svg")
    assert len(pictures) == 3
    assert all(picture.get("aria-label") for picture in pictures)
    titles = ["".join(head.itertext()) for head in root.findall(".//h2")]
    assert len(titles) == len(set(titles)) == 6


def test_it_fetches_nothing_and_runs_nothing() -> None:
    html = page(predictions())
    assert not re.search(r"https?:|//\w|<script|<link|<img|@import|url\(|src=| on\w+=", html)


def test_no_text_and_no_label_unescaped() -> None:
    html = page(predictions())
    assert "secret" not in html
    assert NASTY not in html
    assert "&lt;script&gt;&amp;&quot;label" in html
    assert "router &lt;1&gt;" in html


def test_bars_are_as_long_as_the_report_says() -> None:
    found = predictions()
    report = build_report(found)
    svg = parsed(page(found)).findall(".//svg")[0]
    widths = [float(bar.get("width", "nan")) for bar in svg.findall("rect")]
    longest = 640 - 90 - 60
    assert widths == pytest.approx([s.accuracy * longest for s in report.languages], abs=0.1)


def test_every_row_is_in_the_matrix() -> None:
    cells = re.findall(r"<td style=[^>]*>(\d+|·)</td>", page(predictions()))
    assert len(cells) == 9
    assert sum(int(cell) for cell in cells if cell != "·") == 180


def test_many_labels_become_a_list_of_mistakes() -> None:
    html = page(predictions(labels=30))
    assert "Commonest mistakes" in html
    assert "<td style=" not in html


def test_no_mistakes_are_said() -> None:
    found = [
        Predicted(Row(text="x", label="a", language="en", line=1), label="a", score=1.0, tokens=3)
    ]
    html = render(build_report(found), found, title="one")
    assert "No mistakes" in html
    assert "older model" not in html
    parsed(html)
