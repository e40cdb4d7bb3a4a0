"""MLflow. Where its server is, and what the experiment is called, MLflow's own variables say."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlmr.settings import keep_packages_quiet
from xlmr.training.devices import import_extra
from xlmr.training.loop import Step
from xlmr.training.recipe import Recipe
from xlmr.training.trackers import RUN_FILES, figures, flat

# Metrics and parameters that the server takes at once.
_METRICS, _PARAMETERS = 1000, 100
_SENT_EVERY_S = 5.0


class Mlflow:
    """A run on an MLflow server, through its client: no global run is opened."""

    name = "mlflow"

    def __init__(self, mlflow: Any) -> None:
        self._mlflow = mlflow
        self._client = mlflow.MlflowClient()
        self._run = ""
        self._metrics: list[Any] = []
        self._sent = time.monotonic()

    def start(
        self, recipe: Recipe, identity: Mapping[str, Any], directory: Path, *, known: str
    ) -> str:
        """See `Tracker`."""
        entities = self._mlflow.entities
        if known:
            self._run = known
            self._client.update_run(known, status="RUNNING")
            return known
        created = self._client.create_run(
            self._experiment(), run_name=recipe.name or directory.stem, tags=flat(identity)
        )
        self._run = str(created.info.run_id)
        said = [entities.Param(name, value) for name, value in flat(recipe.to_json()).items()]
        for place in range(0, len(said), _PARAMETERS):
            self._client.log_batch(self._run, params=said[place : place + _PARAMETERS])
        return self._run

    def step(self, step: Step) -> None:
        """See `Tracker`; sends many steps together."""
        now = int(time.time() * 1000)
        metric = self._mlflow.entities.Metric
        self._metrics += [metric(k, v, now, step.number) for k, v in figures(step).items()]
        due = time.monotonic() - self._sent >= _SENT_EVERY_S
        if due or len(self._metrics) >= _METRICS // 2:
            self._send()

    def finish(self, record: Mapping[str, Any] | None, directory: Path) -> None:
        """See `Tracker`."""
        self._send()
        for name in RUN_FILES:
            if (directory / name).exists():
                self._client.log_artifact(self._run, str(directory / name))
        self._client.set_terminated(self._run, "FAILED" if record is None else "FINISHED")

    def _send(self) -> None:
        while self._metrics:
            self._client.log_batch(self._run, metrics=self._metrics[:_METRICS])
            del self._metrics[:_METRICS]
        self._sent = time.monotonic()

    def _experiment(self) -> str:
        name = self._mlflow.environment_variables.MLFLOW_EXPERIMENT_NAME.get() or "xlmr"
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))


def make() -> Mlflow:
    """The tracker.

    Raises:
        MissingExtraError: mlflow is not installed.
    """
    keep_packages_quiet()
    return Mlflow(import_extra("mlflow", extra="mlflow"))
