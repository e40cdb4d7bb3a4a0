"""The port of what follows runs from outside: told of the start, every step and the end.

    XLMR_TRACKER=mlflow MLFLOW_TRACKING_URI=… xlmr train recipe.toml --out models/router

A tracker is told by `courier.Courier`, in a thread of its own, so it may be slow and may fail.
`journal.Journal` is the one for tests.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from xlmr.training.loop import Step
from xlmr.training.recipe import Recipe

# What is sent along at the end, where it is there: no text of the data is in any of these.
RUN_FILES = ("recipe.toml", "record.json", "curves.png")
_MODULES = {"mlflow": "mlflow", "wandb": "wandb"}
NAMES = tuple(_MODULES)


class Tracker(Protocol):
    """Follows one run. Whatever a method raises is counted, and the run goes on."""

    @property
    def name(self) -> str:
        """What faults are said of."""

    def start(
        self, recipe: Recipe, identity: Mapping[str, Any], directory: Path, *, known: str
    ) -> str:
        """Opens the run there, or opens it again.

        Args:
            recipe: of the run.
            identity: digests of recipe, data and encoder, and the versions of libraries.
            directory: of the run; a tracker may keep files of its own there.
            known: what `start` gave before the run was killed; empty for a new run.

        Returns:
            What finds the run again.
        """

    def step(self, step: Step) -> None:
        """Tells of a step. After a kill, steps since the last checkpoint are told a second time."""

    def finish(self, record: Mapping[str, Any] | None, directory: Path) -> None:
        """Closes the run, with `RUN_FILES` of its directory; `record` is None where it failed."""


def make_tracker(name: str) -> Tracker | None:
    """The tracker of a name in `NAMES`; None for the empty name.

    Raises:
        MissingExtraError: its package is not installed.
    """
    if not name:
        return None
    made: Tracker = importlib.import_module(f"{__name__}.{_MODULES[name]}").make()
    return made


def figures(step: Step) -> dict[str, float]:
    """A step's numbers by name: `loss`, …, `dev/accuracy/macro`, `dev/accuracy/de`."""
    found = {
        "loss": step.loss,
        "learning_rate": step.learning_rate,
        "gradient_norm": step.gradient_norm,
        "tokens": float(step.tokens),
        "tokens_per_second": step.tokens / step.seconds if step.seconds else 0.0,
        "epoch": float(step.epoch),
    }
    if step.dev is not None:
        place = f"dev/{step.dev.metric}"
        found[f"{place}/macro"] = step.dev.macro
        found |= {f"{place}/{name}": value for name, value in step.dev.by_language.items()}
    return found


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Nested values as `run.epochs` → `4`; what is no text is JSON."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return found
