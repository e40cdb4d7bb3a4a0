"""A run from its directory to its model, with all that goes around it: curves, energy, trackers.

The steps are `run.Training`'s; the command line and Ray's workers both drive them from here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from xlmr.errors import MissingExtraError, TrainingError
from xlmr.evaluation.speed.machine import describe_machine
from xlmr.training.curves import draw_curves
from xlmr.training.energy import Meter, metered
from xlmr.training.loop import Step
from xlmr.training.run import Training
from xlmr.training.rundir import RunDirectory, open_run, run_path
from xlmr.training.trackers import Tracker
from xlmr.training.trackers.courier import Courier

# Between two pictures of a run that goes on: short epochs must not wait for drawings.
_DRAWN_EVERY_S = 30.0
_PACKAGES = (
    "numpy", "torch", "transformers", "accelerate", "peft", "tokenizers", "safetensors",
    "scikit-learn", "pyarrow", "datasets", "ray", "mlflow", "wandb", "codecarbon",
)  # fmt: skip


class Conduct:
    """One whole run.

    Args:
        training: the run.
        out: the model directory that will be written.
        force: replace a model that stands there.
        fresh: forget an unfinished run instead of continuing it.
        tracker: who is told of it.
        country: see `energy.metered`.

    Attributes:
        notes: what is worth saying at the end, a line each.
    """

    def __init__(
        self,
        training: Training,
        out: Path,
        *,
        force: bool = False,
        fresh: bool = False,
        tracker: Tracker | None = None,
        country: str = "",
    ) -> None:
        self.training, self.out = training, out
        self.notes: list[str] = []
        self._force, self._fresh = force, fresh
        self._courier, self._country = Courier(tracker), country

    @property
    def continues(self) -> bool:
        """Whether an unfinished run waits to be continued."""
        return RunDirectory(run_path(self.out)).unfinished and not self._fresh

    def steps(self) -> Iterator[Step]:
        """Takes every step that is still to take; after the last one the model is written.

        Raises:
            TrainingError: see `loop.train` and `rundir.open_run`.
            ModelError: the target is taken, or the disk full or not writable.
        """
        device = self.training.device
        if not device.leads:
            device.wait()
            yield from self.training.steps(RunDirectory(run_path(self.out)))
        else:
            identity, toml = self.training.identity(), self.training.recipe.to_toml()
            with open_run(self.out, identity, toml, fresh=self._fresh) as directory:
                device.wait()
                yield from self._lead(directory, identity)
        device.wait()

    def _lead(self, directory: RunDirectory, identity: Mapping[str, Any]) -> Iterator[Step]:
        training, record = self.training, None
        started = datetime.now(UTC)
        self._courier.start(training.recipe, identity, directory.path)
        try:
            with metered(country=self._country) as meter:
                drawn = time.monotonic()
                for step in training.steps(directory):
                    self._courier.step(step)
                    if step.ends_epoch and time.monotonic() - drawn >= _DRAWN_EVERY_S:
                        self._draw(directory)
                        drawn = time.monotonic()
                    yield step
                if training.state is None or training.state.number == 0:
                    raise TrainingError("the run took no step")
                training.write(self.out, force=self._force)
                self._draw(directory)
                record = self._record(directory, started, meter)
                directory.finish(record)
        finally:
            if fault := self._courier.finish(record, directory.path):
                self.notes.append(fault)

    def _draw(self, directory: RunDirectory) -> None:
        try:
            draw_curves(directory.steps(), directory.path / "curves.png")
        except MissingExtraError as fault:
            note = f"no curves.png: {fault.message} ({fault.hint})"
        except OSError as fault:
            note = f"no curves.png: {fault.strerror}"
        else:
            return
        if note not in self.notes:
            self.notes.append(note)

    def _record(self, directory: RunDirectory, started: datetime, meter: Meter) -> dict[str, Any]:
        """The run's record. Time and tokens are of all its parts, energy of this one."""
        tokens, seconds = 0, 0.0
        for step in directory.steps():
            tokens, seconds = tokens + step["tokens"], seconds + step["seconds"]
        made = self.training.record(seconds=seconds, tokens=tokens)
        return made | {
            "tokens_per_second": round(tokens / seconds, 1) if seconds else None,
            "started": started.isoformat(timespec="seconds"),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": describe_machine() | made["machine"],
            "versions": _versions(),
            "energy": meter.read(),
        }


def _versions() -> dict[str, str]:
    """Of the packages that a run may have used and that are installed."""
    found: dict[str, str] = {}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
