"""A report as one page of HTML with pictures: it needs no network, no script and no other file.

Pure. The page shows labels, languages and figures, and never a text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from xlmr.evaluation.compare import Comparison
from xlmr.evaluation.figures import drawn_in_words, in_words, plain_figures
from xlmr.evaluation.metrics.calibration import reliability
from xlmr.evaluation.metrics.draws import whole
from xlmr.evaluation.pictures import bars, length_curve, reliability_diagram
from xlmr.evaluation.report import Report
from xlmr.evaluation.slices import by_length
from xlmr.evaluation.tasks import Evaluator, Judged, Labelled

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
    judged: Sequence[Judged],
    evaluator: Evaluator,
    *,
    title: str,
    slices: Mapping[str, Report] | None = None,
    comparison: Comparison | None = None,
    precision: Comparison | None = None,
) -> str:
    """The page of a report and of the rows it was made from.

    Args:
        report: of `judged`.
        judged: the rows.
        evaluator: that judged them.
        title: of the page.
        slices: reports of harder rows, by what makes them so.
        comparison: with an older model.
        precision: with the same model in another number format.
    """
    metric = in_words(report.metric)
    sections = [
        _summary(report),
        _languages(report),
        _labels(report),
        _comparison(f"Against the older model, {metric}", comparison),
        _comparison(f"Against the other number format, {metric}", precision),
        _slices(slices) if slices else "",
        *([_confusion(judged), _reliability(judged)] if _single_label(judged) else []),
        _lengths(judged, evaluator),
    ]
    return whole_page(title, "by language", sections)


def whole_page(title: str, about: str, sections: Sequence[str]) -> str:
    """A page of sections; `about` stands behind the title where a browser shows it."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}: {escape(about)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{''.join(sections)}</body>\n</html>\n"
    )


def _summary(report: Report) -> str:
    metric = in_words(report.metric)
    said = [
        (f"Macro {metric}", f"{report.macro:.3f}"),
        ("Worst language", f"{report.worst_value:.3f} ({report.worst})"),
    ]
    if report.gap_to_english is not None:
        said.append(("Gap to English", f"{report.gap_to_english:.3f}"))
    said += [
        (f"{in_words(name)}, mean over languages", f"{value:.3f}")
        for name, value in plain_figures(report.more_macro).items()
    ]
    said.append(("Rows", f"{report.n:,} in {len(report.languages)} languages"))
    if report.truncated:
        said.append(("Longer than the model reads", f"{report.truncated:,} rows"))
    return table((), said)


def _languages(report: Report) -> str:
    metric = in_words(report.metric)
    picture = bars(
        [(score.language, score.value, score.low, score.high) for score in report.languages],
        label=f"{metric} by language, with 95 % intervals",
    )
    more = list(plain_figures(report.more_macro))
    rows = [
        (
            score.language,
            score.script,
            f"{score.n:,}",
            f"{score.value:.3f}",
            f"{score.low:.3f} – {score.high:.3f}",
            *(f"{score.more[name]:.3f}" if name in score.more else "–" for name in more),
        )
        for score in report.languages
    ]
    heads = ("language", "script", "n", metric, "95 % interval", *map(in_words, more))
    return section(f"{metric} by language, the worst first", picture + table(heads, rows))


def _labels(report: Report) -> str:
    parted = [name.partition(":") for name in report.more_macro if ":" in name]
    if not parted:
        return ""
    figures = list(dict.fromkeys(figure for figure, _, _ in parted))
    labels = dict.fromkeys(label for _, _, label in parted)
    rows = []
    for label in labels:
        found = (report.more_macro.get(f"{figure}:{label}") for figure in figures)
        rows.append((label, *("–" if each is None else f"{each:.3f}" for each in found)))
    heads = ("label", *map(in_words, figures))
    return section("By label, mean over languages", table(heads, rows))


def _comparison(title: str, comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
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
    heads = ("language", "n", "other", "this", "points", "95 % interval")
    drawn = drawn_in_words(comparison.together)
    return section(title, f"{table(heads, rows)}<p>{drawn}</p>")


def _slices(slices: Mapping[str, Report]) -> str:
    rows = [
        (
            name,
            f"{part.n:,}",
            str(len(part.languages)),
            f"{part.macro:.3f}",
            f"{part.worst_value:.3f} ({part.worst})",
        )
        for name, part in slices.items()
    ]
    heads = ("slice", "n", "languages", "macro", "worst language")
    return section("Harder slices", table(heads, rows))


def _single_label(judged: Sequence[Judged]) -> bool:
    return all(isinstance(row.outcome, Labelled) and hasattr(row.row, "label") for row in judged)


def _confusion(judged: Sequence[Judged]) -> str:
    counts = Counter((row.row.label, row.outcome.label) for row in judged)
    mistakes = Counter({pair: n for pair, n in counts.items() if pair[0] != pair[1]})
    rows = [(gold, given, f"{n:,}") for (gold, given), n in mistakes.most_common(_MOST_MISTAKES)]
    listed = table(("gold", "predicted", "n"), rows) if rows else "<p>No mistakes.</p>"
    labels = sorted({label for pair in counts for label in pair})
    if len(labels) > _MOST_CLASSES:
        return section("Commonest mistakes", listed)
    return section("Gold labels down, predicted across", _matrix(labels, counts) + listed)


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


def _reliability(judged: Sequence[Judged]) -> str:
    found = reliability(
        np.array([row.outcome.score for row in judged]),
        np.array([row.outcome.label == row.row.label for row in judged]),
    )
    picture = reliability_diagram(
        [(bin_.confidence, bin_.accuracy, bin_.n) for bin_ in found],
        label="How often the model is right, by how sure it is, over all languages",
    )
    said = "On the dashed line it is right as often as it says; under it, it is too sure."
    return section("Sure and right, all languages together", f"<p>{said}</p>{picture}")


def _lengths(judged: Sequence[Judged], evaluator: Evaluator) -> str:
    metric = in_words(evaluator.metric)
    points = [
        (name, whole(evaluator.figures, np.array([row.values for row in found])), len(found))
        for name, found in by_length(judged, [row.tokens for row in judged]).items()
    ]
    label = f"{metric} by length in tokens, over all languages"
    picture = length_curve(points, metric=metric, label=label)
    return section(f"{metric} by length in tokens", picture)


def section(title: str, content: str) -> str:
    """A part of a page; the content is HTML."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>\n"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain words in rows, the first of each its name; without heads where there are none."""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join(
        f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    head = f"<thead><tr>{top}</tr></thead>" if heads else ""
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'
