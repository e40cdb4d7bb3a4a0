"""Three pages of Grafana for three readers, made from the objectives. Pure."""

from __future__ import annotations

from xlmr.levels.dashboards.debug import debug
from xlmr.levels.dashboards.executive import executive
from xlmr.levels.dashboards.on_call import on_call
from xlmr.levels.dashboards.panels import Dashboard
from xlmr.levels.dashboards.queries import Queries
from xlmr.levels.objectives import Objectives


def dashboards(objectives: Objectives) -> dict[str, Dashboard]:
    """The pages by the names of their files."""
    queries = Queries(objectives.job)
    return {
        "executive": executive(objectives, queries),
        "on-call": on_call(objectives, queries),
        "debug": debug(objectives, queries),
    }
