"""A run as a picture: loss, learning rate and dev score by language, over the steps."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xlmr.errors import MissingExtraError
from xlmr.wholly import write_whole

# Hues that stay apart for colour-blind readers (Okabe and Ito's palette); dashes tell the rest.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8C8C8C")
_DASHES = ("-", "--", ":", "-.")
# Points of a line: more than a screen has columns say nothing, and cost time after every epoch.
_POINTS = 2000


def draw_curves(steps: Iterable[Mapping[str, Any]], path: Path) -> bool:
    """Writes the picture, whole or not at all; False where there is no step yet.

    Args:
        steps: as `RunDirectory.steps` gives them.
        path: where the PNG goes; what stood there is replaced.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: the picture cannot be written.
    """
    taken = list(steps)
    if not taken:
        return False
    try:
        figures: Any = importlib.import_module("matplotlib.figure")
    except ModuleNotFoundError as fault:
        raise MissingExtraError("matplotlib", extra="train") from fault
    scored = [step for step in taken if step["dev"]]
    rows = 3 if scored else 2
    # A figure of its own: no window system is asked for, and nothing global is touched.
    figure = figures.Figure(figsize=(8, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, sharex=True)
    _draw_loss(axes[0], taken)
    numbers, rates = _thinned([(step["number"], step["learning_rate"]) for step in taken])
    axes[1].plot(numbers, rates, color=_COLOURS[0], linewidth=1)
    axes[1].set_ylabel("learning rate")
    if scored:
        _draw_scores(axes[2], scored)
    axes[-1].set_xlabel("step")
    for each in axes:
        each.grid(visible=True, alpha=0.3)
        each.spines[["top", "right"]].set_visible(False)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110, format="png")
    write_whole(path, drawn.getvalue())
    return True


def _draw_loss(axes: Any, steps: Sequence[Mapping[str, Any]]) -> None:
    """Every step's loss, faint, and its mean over an epoch, at the epoch's end."""
    numbers, losses = _thinned([(step["number"], step["loss"]) for step in steps])
    axes.plot(numbers, losses, color=_COLOURS[0], linewidth=0.8, alpha=0.5, label="step")
    epochs: dict[int, list[Mapping[str, Any]]] = {}
    for step in steps:
        epochs.setdefault(step["epoch"], []).append(step)
    ends = [
        (epoch[-1]["number"], float(np.mean([step["loss"] for step in epoch])))
        for epoch in epochs.values()
    ]
    axes.plot(*zip(*ends, strict=True), color=_COLOURS[1], marker="o", label="mean of epoch")
    axes.set_ylabel("loss")
    axes.legend(fontsize=8, frameon=False)


def _draw_scores(axes: Any, scored: Sequence[Mapping[str, Any]]) -> None:
    """A line for each language, and the mean over languages in black."""
    numbers = [step["number"] for step in scored]
    languages = sorted({name for step in scored for name in step["dev"]["by_language"]})
    for place, language in enumerate(languages):
        values = [step["dev"]["by_language"].get(language, float("nan")) for step in scored]
        colour = _COLOURS[place % len(_COLOURS)]
        dash = _DASHES[place // len(_COLOURS) % len(_DASHES)]
        axes.plot(numbers, values, dash, marker=".", color=colour, linewidth=1, label=language)
    if len(languages) > 1:
        macro = [step["dev"]["macro"] for step in scored]
        axes.plot(numbers, macro, color="black", marker="o", linewidth=1.8, label="macro")
    axes.set_ylabel(f"dev {scored[-1]['dev']['metric'].replace('_', ' ')}")
    columns = 1 + len(languages) // 12
    axes.legend(
        fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), ncols=columns
    )


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """At most so many of the points, evenly, the last always among them."""
    stride = -(-len(points) // _POINTS)
    kept = points[::-1][::stride][::-1]
    return [x for x, _ in kept], [y for _, y in kept]
