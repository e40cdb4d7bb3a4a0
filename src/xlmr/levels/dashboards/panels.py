"""Dashboards of Grafana, as far as ours need it: panels in rows, each a few queries. Pure.

Panels are laid out from left to right and wrap; nobody counts pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

# The grid is 24 wide.
_WIDTH = 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}

Kind = Literal["timeseries", "stat", "table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A picture of some queries.

    Attributes:
        title: what is shown.
        queries: PromQL by how its series are called (Grafana's `{{label}}`).
        unit: Grafana's name of it.
        kind: a course over time, a number, or a table of numbers as they are now.
        width: in 24ths of the page.
        limit: where a line is drawn; None for none.
        more_is_better: whether below that line is red, not above it.
        about: what it means, where the title is not enough.
    """

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: Kind = "timeseries"
    width: int = 8
    limit: float | None = None
    more_is_better: bool = False
    about: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A page.

    Attributes:
        uid: under which Grafana keeps it: the same file replaces it.
        variables: labels that can be chosen, each by the metric whose values they are.
        since: how much is shown at first.
    """

    uid: str
    title: str
    rows: Sequence[Row]
    variables: dict[str, str]
    since: str = "6h"

    def document(self) -> dict[str, Any]:
        """As Grafana imports it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "tags": ["xlmr"],
            "schemaVersion": 39,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": f"now-{self.since}", "to": "now"},
            "templating": {"list": [_SOURCE_CHOICE, *map(_variable, self.variables.items())]},
            "panels": _laid_out(self.rows),
        }


_SOURCE_CHOICE = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
}


def _variable(item: tuple[str, str]) -> dict[str, Any]:
    label, selector = item
    return {
        "name": label,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": f"label_values({selector}, {label})", "refId": label},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _laid_out(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Every panel with its place and a number of its own."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": top, "w": _WIDTH, "h": 1},
            }
        )
        top, left, tallest = top + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > _WIDTH:
                top, left, tallest = top + tallest, 0, 0
            height = 4 if panel.kind == "stat" else 8
            place = {"x": left, "y": top, "w": panel.width, "h": height}
            panels.append({"id": len(panels) + 1, "gridPos": place, **_panel(panel)})
            left, tallest = left + panel.width, max(tallest, height)
        top += tallest
    return panels


def _panel(panel: Panel) -> dict[str, Any]:
    colours = ("red", "green") if panel.more_is_better else ("green", "red")
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    custom: dict[str, Any] = {}
    if panel.limit is not None:
        bounds = (None, panel.limit)
        steps = [{"color": c, "value": v} for c, v in zip(colours, bounds, strict=True)]
        custom = {"thresholdsStyle": {"mode": "line"}}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "custom": custom,
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _SOURCE,
                "expr": query,
                "legendFormat": legend,
                "range": panel.kind != "table",
                "instant": panel.kind == "table",
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
    }
