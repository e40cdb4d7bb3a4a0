"""A result as a picture: tokens a second by workload and runtime."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from xlmr.errors import MissingExtraError
from xlmr.evaluation.speed.run import Result
from xlmr.evaluation.speed.table import origin

# Ours stands out; the peers' hues stay apart for colour-blind readers (Okabe and Ito's palette).
_OURS = "#D55E00"
_PEERS = ("#0072B2", "#56B4E9", "#009E73", "#66C2A5", "#CC79A7", "#8C8C8C", "#BFBFBF")


def require_charts() -> None:
    """Says early that the picture cannot be drawn, before minutes are spent measuring.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        importlib.import_module("matplotlib")
    except ImportError as fault:
        raise MissingExtraError("matplotlib", extra="bench") from fault


def draw(result: Result, path: Path) -> None:
    """Writes a PNG: a group of bars for each workload, a bar for each runtime.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require_charts()
    # The object interface: no window system is asked for, and nothing global is touched.
    figures: Any = importlib.import_module("matplotlib.figure")
    names = list(result.versions)
    standings = result.standings
    figure = figures.Figure(figsize=(1.5 * len(standings) + 3, 4.5), layout="constrained")
    axes = figure.subplots()
    width = 0.85 / len(names)
    peers = iter(_PEERS)
    for place, name in enumerate(names):
        colour = _OURS if name == result.ours else next(peers, "#DDDDDD")
        left = [group + (place - (len(names) - 1) / 2) * width for group in range(len(standings))]
        rates = [standing.scores[name].tokens_per_s for standing in standings]
        axes.bar(left, rates, width, label=f"{name} ({result.versions[name]})", color=colour)
    axes.set_xticks(range(len(standings)), [standing.workload for standing in standings])
    axes.set_ylabel("real tokens a second")
    axes.set_title(f"{result.plan.subject.name}\n{origin(result)}", fontsize=10)
    axes.yaxis.grid(visible=True, alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=150, format="png")
