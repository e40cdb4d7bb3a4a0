"""Weights & Biases. Its own variables say where, as whom and if at all: `WANDB_MODE=offline`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlmr.settings import keep_packages_quiet
from xlmr.training.devices import import_extra
from xlmr.training.loop import Step
from xlmr.training.recipe import Recipe
from xlmr.training.trackers import RUN_FILES, figures


class WeightsAndBiases:
    """A run there, or in files of the run directory until `wandb sync` sends them."""

    name = "wandb"

    def __init__(self, wandb: Any) -> None:
        self._wandb = wandb
        self._run: Any = None

    def start(
        self, recipe: Recipe, identity: Mapping[str, Any], directory: Path, *, known: str
    ) -> str:
        """See `Tracker`."""
        settings = self._wandb.Settings(
            # What is sent is what is said here: no output, no code, no picture of the machine.
            console="off",
            disable_git=True,
            save_code=False,
            silent=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._run = self._wandb.init(
            id=known or None,
            resume="allow",
            name=recipe.name or directory.stem,
            dir=str(directory),
            config={**recipe.to_json(), "identity": dict(identity)},
            settings=settings,
        )
        return str(self._run.id)

    def step(self, step: Step) -> None:
        """See `Tracker`; a step told a second time is left out there."""
        self._run.log(figures(step), step=step.number)

    def finish(self, record: Mapping[str, Any] | None, directory: Path) -> None:
        """See `Tracker`."""
        for name in RUN_FILES:
            if (directory / name).exists():
                # A copy: of files elsewhere it keeps links, and says so in spite of `silent`.
                copied = shutil.copyfile(directory / name, Path(self._run.dir) / name)
                self._run.save(str(copied), base_path=self._run.dir, policy="now")
        self._run.finish(exit_code=1 if record is None else 0)


def make() -> WeightsAndBiases:
    """The tracker.

    Raises:
        MissingExtraError: wandb is not installed.
    """
    keep_packages_quiet()
    return WeightsAndBiases(import_extra("wandb", extra="wandb"))
