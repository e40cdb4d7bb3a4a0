"""Pictures of a report as SVG: plain shapes and words, no script, nothing to fetch. Pure.

Colours are the page's (`currentColor` and three classes), so a picture is right by day and night.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

_ROW = 20  # height of a bar with the gap beneath it, in pixels
_LEFT = 90  # room for names
_WIDTH = 640
_SIDE = 300  # of a square diagram's inside
_MARGIN = 45


def bars(
    rows: Sequence[tuple[str, float, float, float]],
    *,
    label: str,
    marks: Mapping[str, float] | None = None,
) -> str:
    """A bar for each (name, value, low, high), with its interval as a whisker.

    Values are at most 1; what a correlation falls below 0 is written, not drawn. A mark is a dashed
    line across the bar of its name: what the value was once.
    """
    shapes = []
    for place, (name, value, low, high) in enumerate(rows):
        y = place * _ROW + 2
        middle = y + _ROW / 2 - 2
        shapes += [
            _text(_LEFT - 8, middle + 4, name, anchor="end"),
            f'<rect class="bar" x="{_LEFT}" y="{y}" width="{_across(value) - _LEFT:.1f}" '
            f'height="{_ROW - 4}"/>',
            _line(_across(low), middle, _across(high), middle, "whisker"),
            _text(_across(1.0) + 8, middle + 4, f"{value:.3f}"),
        ]
        if marks and name in marks:
            x = _across(marks[name])
            shapes.append(_line(x, y, x, y + _ROW - 4, "rule"))
    return _svg(_WIDTH, len(rows) * _ROW + 4, shapes, label)


def reliability_diagram(bins: Sequence[tuple[float, float, int]], *, label: str) -> str:
    """A dot for each (confidence, accuracy, n), its area growing with n, beside the diagonal."""
    most = max((n for _, _, n in bins), default=1)
    shapes = [_line(*_at(0, 0), *_at(1, 1), "rule")]
    for confidence, accuracy, n in bins:
        x, y = _at(confidence, accuracy)
        radius = 3 + 6 * (n / most) ** 0.5
        hint = f"{n} rows: {confidence:.3f} sure, {accuracy:.3f} right"
        shapes.append(
            f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
            f"<title>{hint}</title></circle>"
        )
    return _square(shapes, across="confidence", up="accuracy", label=label)


def length_curve(points: Sequence[tuple[str, float, int]], *, metric: str, label: str) -> str:
    """A figure by bucket of length, (name, value, n), evenly spaced and joined by a line."""
    step = 1.0 / max(len(points), 1)
    places = [_at((i + 0.5) * step, max(value, 0.0)) for i, (_, value, _) in enumerate(points)]
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    shapes = [f'<polyline class="curve" points="{joined}"/>']
    for (name, value, n), (x, y) in zip(points, places, strict=True):
        shapes += [
            f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4">'
            f"<title>{n} rows: {value:.3f}</title></circle>",
            _text(x, _SIDE + 30, name, anchor="middle"),
        ]
    return _square(shapes, across="", up=metric, label=label)


def _square(shapes: Iterable[str], *, across: str, up: str, label: str) -> str:
    frame = []
    for tenth in range(0, 11, 2):
        value = tenth / 10
        frame += [
            _line(*_at(0, value), *_at(1, value), "grid"),
            _text(_MARGIN - 6, _at(0, value)[1] + 4, f"{value:.1f}", anchor="end"),
        ]
        if across:
            frame.append(_text(_at(value, 0)[0], _SIDE + 30, f"{value:.1f}", anchor="middle"))
    if across:
        frame.append(_text(_MARGIN + _SIDE / 2, _SIDE + 50, across, anchor="middle"))
    frame.append(_text(_MARGIN + 4, 12, up))
    return _svg(_SIDE + 2 * _MARGIN, _SIDE + 60, [*frame, *shapes], label)


def _at(x: float, y: float) -> tuple[float, float]:
    """Pixels of a point 0 to 1 in a square diagram; y grows upwards."""
    return _MARGIN + x * _SIDE, 15 + (1.0 - y) * _SIDE


def _across(value: float) -> float:
    return _LEFT + max(value, 0.0) * (_WIDTH - _LEFT - 60)


def _text(x: float, y: float, words: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _svg(width: float, height: float, shapes: Iterable[str], label: str) -> str:
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}">{"".join(shapes)}</svg>'
    )
