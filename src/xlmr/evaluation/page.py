"""A report as one page of HTML with pictures: it needs no network, no script and no other file.

Pure. The page shows labels, languages and figures, and never a text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from xlmr.evaluation.compare import Comparison
from xlmr.evaluation.metrics.calibration import reliability
from xlmr.evaluation.pictures import bars, length_curve, reliability_diagram
from xlmr.evaluation.report import Predicted, Report
from xlmr.evaluation.slices import by_length

# A matrix of more classes than this is a carpet; the commonest mistakes are listed instead.
_MOST_CLASSES = 20
_MOST_MISTAKES = 15

_STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --bar: #3b74b9; --faint: #8885; }
@media (prefers-color-scheme: dark) { :root { --ink: #ddd; --paper: #181818; --bar: #6fa5e6; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } .wide { overflow-x: auto; }
th, td { text-align: right; padding: .15rem .6rem; } th:first-child { text-align: left; }
thead th { border-bottom: 1px solid var(--faint); }
svg { max-width: 100%; height: auto; font-size: 12px; } svg text { fill: currentColor; }
.bar { fill: var(--bar); } .dot { fill: var(--bar); fill-opacity: .8; }
.whisker { stroke: currentColor; stroke-width: 2; } .grid { stroke: var(--faint); }
.rule { stroke: currentColor; stroke-dasharray: 4 4; }
.curve { fill: none; stroke: var(--bar); stroke-width: 2; }
""".strip()


def render(
    report: Report,
    predictions: Sequence[Predicted],
    *,
    title: str,
    slices: Mapping[str, Report] | None = None,
    comparison: Comparison | None = None,
) -> str:
    """The page of a report and of the predictions it was made from.

    Raises:
        ValueError: no predictions.
    """
    sections = [
        _summary(report),
        _languages(report),
        _comparison(comparison) if comparison is not None else "",
        _slices(slices) if slices else "",
        _confusion(predictions),
        _reliability(predictions),
        _lengths(predictions),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}: by language</title>\n<style>\n{_STYLE}\n</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{''.join(sections)}</body>\n</html>\n"
    )


def _summary(report: Report) -> str:
    said = [
        ("Macro accuracy", f"{report.macro_accuracy:.3f}"),
        ("Worst language", f"{report.worst_accuracy:.3f} ({report.worst})"),
        ("Macro F1, mean over languages", f"{report.macro_f1:.3f}"),
        ("ECE, mean over languages", f"{report.macro_ece:.3f}"),
        ("Texts", f"{report.n:,} in {len(report.languages)} languages"),
    ]
    if report.gap_to_english is not None:
        said.insert(2, ("Gap to English", f"{report.gap_to_english:.3f}"))
    return _table((), said)


def _languages(report: Report) -> str:
    picture = bars(
        [(score.language, score.accuracy, score.low, score.high) for score in report.languages],
        label="Accuracy by language, with 95 % intervals",
    )
    rows = [
        (
            score.language,
            f"{score.n:,}",
            f"{score.accuracy:.3f}",
            f"{score.low:.3f} – {score.high:.3f}",
            f"{score.macro_f1:.3f}",
            f"{score.ece:.3f}",
        )
        for score in report.languages
    ]
    heads = ("language", "n", "accuracy", "95 % interval", "macro F1", "ECE")
    return _section("Accuracy by language, the worst first", picture + _table(heads, rows))


def _comparison(comparison: Comparison) -> str:
    named = [("all, each counting the same", comparison.macro), *comparison.languages.items()]
    rows = [
        (
            name,
            f"{found.n:,}",
            f"{found.old:.3f}",
            f"{found.new:.3f}",
            f"{found.difference * 100:+.1f}",
            f"{found.low * 100:+.1f} – {found.high * 100:+.1f}",
        )
        for name, found in named
    ]
    heads = ("language", "n", "older", "this", "points", "95 % interval")
    return _section(f"Against the older model, {comparison.metric}", _table(heads, rows))


def _slices(slices: Mapping[str, Report]) -> str:
    rows = [
        (
            name,
            f"{part.n:,}",
            str(len(part.languages)),
            f"{part.macro_accuracy:.3f}",
            f"{part.worst_accuracy:.3f} ({part.worst})",
        )
        for name, part in slices.items()
    ]
    heads = ("slice", "n", "languages", "macro accuracy", "worst language")
    return _section("Harder slices", _table(heads, rows))


def _confusion(predictions: Sequence[Predicted]) -> str:
    counts = Counter((p.row.label, p.label) for p in predictions)
    mistakes = Counter({pair: n for pair, n in counts.items() if pair[0] != pair[1]})
    rows = [(gold, given, f"{n:,}") for (gold, given), n in mistakes.most_common(_MOST_MISTAKES)]
    listed = _table(("gold", "predicted", "n"), rows) if rows else "<p>No mistakes.</p>"
    labels = sorted({label for pair in counts for label in pair})
    if len(labels) > _MOST_CLASSES:
        return _section("Commonest mistakes", listed)
    return _section("Gold labels down, predicted across", _matrix(labels, counts) + listed)


def _matrix(labels: Sequence[str], counts: Mapping[tuple[str, str], int]) -> str:
    heads = "".join(f"<th>{escape(label)}</th>" for label in labels)
    lines = []
    for gold in labels:
        total = sum(counts.get((gold, given), 0) for given in labels)
        cells = []
        for given in labels:
            n = counts.get((gold, given), 0)
            share = round(70 * n / max(total, 1))
            shade = f"background: color-mix(in srgb, var(--bar) {share}%, transparent)"
            cells.append(f'<td style="{shade}">{n or "·"}</td>')
        lines.append(f"<tr><th>{escape(gold)}</th>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _reliability(predictions: Sequence[Predicted]) -> str:
    found = reliability(
        np.array([p.score for p in predictions]), np.array([p.right for p in predictions])
    )
    picture = reliability_diagram(
        [(bin_.confidence, bin_.accuracy, bin_.n) for bin_ in found],
        label="How often the model is right, by how sure it is, over all languages",
    )
    said = "On the dashed line it is right as often as it says; under it, it is too sure."
    return _section("Sure and right, all languages together", f"<p>{said}</p>{picture}")


def _lengths(predictions: Sequence[Predicted]) -> str:
    buckets = by_length(predictions, [p.tokens for p in predictions])
    points = [
        (name, float(np.mean([p.right for p in found])), len(found))
        for name, found in buckets.items()
    ]
    picture = length_curve(points, label="Accuracy by length in tokens, over all languages")
    return _section("Accuracy by length in tokens", picture)


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join(
        f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    head = f"<thead><tr>{top}</tr></thead>" if heads else ""
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'
