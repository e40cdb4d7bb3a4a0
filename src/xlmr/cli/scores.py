"""A report, its slices and comparisons as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from xlmr.evaluation.compare import Comparison
from xlmr.evaluation.figures import drawn_in_words, in_words, plain_figures
from xlmr.evaluation.report import Report


def print_report(report: Report, console: Console) -> None:
    """The summary, then a line for each language."""
    metric = in_words(report.metric)
    lines = [
        (f"macro {metric}", report.macro, f"over {_languages(report)}"),
        ("worst language", report.worst_value, report.worst),
    ]
    if report.gap_to_english is not None:
        lines.append(("gap to English", report.gap_to_english, f"English {report.english:.3f}"))
    width = max(len(name) for name, _, _ in lines)
    for name, value, note in lines:
        console.print(f"{name:{width}}  {value:.3f}  {note}")
    if report.truncated:
        console.print(f"{report.truncated} rows were longer than the model reads and were cut")
    more = list(plain_figures(report.more_macro))
    table = _table("language", "script", "n", metric, "95 % interval", *map(in_words, more))
    for score in report.languages:
        table.add_row(
            score.language,
            score.script,
            str(score.n),
            f"{score.value:.3f}",
            f"{score.low:.3f} – {score.high:.3f}",
            *(f"{score.more[name]:.3f}" if name in score.more else "–" for name in more),
        )
    console.print()
    console.print(table)
    _print_labels(report, console)


def _print_labels(report: Report, console: Console) -> None:
    labels = {name: value for name, value in report.more_macro.items() if ":" in name}
    if not labels:
        return
    table = _table("label", "mean over languages")
    for name, value in labels.items():
        table.add_row(in_words(name), f"{value:.3f}")
    console.print()
    console.print(table)


def print_slices(sliced: Mapping[str, Report], console: Console) -> None:
    """A line for each slice; languages differ between slices, so macro does too."""
    metric = in_words(next(iter(sliced.values())).metric)
    table = _table("slice", "n", "languages", f"macro {metric}", "worst")
    for name, report in sliced.items():
        worst = f"{report.worst_value:.3f} {report.worst}"
        count = str(len(report.languages))
        table.add_row(name, str(report.n), count, f"{report.macro:.3f}", worst)
    console.print()
    console.print(table)


def print_comparison(comparison: Comparison, other: str, console: Console) -> None:
    """The macro difference in points, then a line for each language, the greatest loss first."""
    macro = comparison.macro
    console.print()
    console.print(
        f"against {other}  {_points(macro.difference)} points macro "
        f"{in_words(comparison.metric)}  "
        f"95 % interval {_points(macro.low)} – {_points(macro.high)}",
        soft_wrap=True,
    )
    console.print(drawn_in_words(comparison.together), soft_wrap=True)
    table = _table("language", "n", "other", "this", "points", "95 % interval")
    for language, found in comparison.languages.items():
        table.add_row(
            language,
            str(found.n),
            f"{found.old:.3f}",
            f"{found.new:.3f}",
            _points(found.difference),
            f"{_points(found.low)} – {_points(found.high)}",
        )
    console.print()
    console.print(table)


def _table(first: str, *others: str) -> Table:
    table = Table(first, box=None, pad_edge=False)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


def _languages(report: Report) -> str:
    count = len(report.languages)
    return "1 language" if count == 1 else f"{count} languages"


def _points(share: float) -> str:
    return f"{round(share * 100.0, 1) + 0.0:+.1f}"  # + 0.0: no minus before a zero
