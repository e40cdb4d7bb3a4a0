"""The same run in the workers of a Ray cluster, through Ray Train: the one file that knows Ray.

Recipe, data, encoder and target are paths: every worker must find them, so on several machines they
lie on storage that all of them share. The first worker writes; the others learn along.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xlmr.errors import MissingExtraError, TrainingError, XlmrError
from xlmr.settings import Settings, keep_packages_quiet
from xlmr.training.recipe import Recipe, make_recipe
from xlmr.training.rundir import run_path


def train_on_ray(
    recipe: Recipe,
    out: Path,
    *,
    workers: int,
    settings: Settings,
    force: bool = False,
    fresh: bool = False,
    track: str = "",
) -> dict[str, Any]:
    """Trains in so many workers, one GPU each where the cluster has GPUs, else one CPU each.

    A cluster that is connected, or that `RAY_ADDRESS` names, is used and left running; else one is
    started on this machine and stopped at the end. A run whose worker died continues from its last
    checkpoint when it is started again.

    Returns:
        The run's record, as in `record.json`, with `notes`: what is worth saying.

    Raises:
        MissingExtraError: ray is not installed.
        TrainingError: the cluster has too few processors, or a worker failed; says why.
    """
    ray = _import_ray()
    plan = {
        "recipe": json.dumps(_absolute(recipe)),
        "out": str(out.absolute()),
        "tracker": track or settings.tracker,
        "country": settings.country,
        "cache_dir": str(settings.cache_dir.absolute()),
        "force": force,
        "fresh": fresh,
    }
    with _cluster(ray, workers) as on_gpu:
        torch_trainer = importlib.import_module("ray.train.torch").TorchTrainer
        trainer = torch_trainer(
            _work,
            train_loop_config=plan,
            scaling_config=ray.train.ScalingConfig(num_workers=workers, use_gpu=on_gpu),
            run_config=ray.train.RunConfig(name="ray", storage_path=str(run_path(out).absolute())),
        )
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as fault:
            raise _translated(fault) from fault
    return _outcome(run_path(out))


def _work(plan: Mapping[str, Any]) -> None:
    """What each worker does; Ray has joined them before."""
    from xlmr.model.bundle import open_bundle
    from xlmr.training.conduct import Conduct
    from xlmr.training.data import read_examples
    from xlmr.training.devices import Device
    from xlmr.training.objectives import schema_of
    from xlmr.training.run import Training
    from xlmr.training.trackers import make_tracker

    try:
        recipe = make_recipe(json.loads(plan["recipe"]))
        device, out = Device(), Path(plan["out"])
        examples = read_examples(recipe.data, schema_of(recipe))
        bundle = open_bundle(Path(recipe.encoder), cache_dir=Path(plan["cache_dir"]))
        training = Training(recipe, bundle, examples, device)
        conduct = Conduct(
            training,
            out,
            force=plan["force"],
            fresh=plan["fresh"],
            tracker=make_tracker(plan["tracker"]) if device.leads else None,
            country=plan["country"],
        )
        for _ in conduct.steps():
            pass
    except XlmrError as fault:
        # Ray carries exceptions by pickle, which not all of ours survive; their words do.
        raise TrainingError(fault.message, hint=fault.hint) from None
    if device.leads:
        notes = json.dumps(conduct.notes)
        (run_path(out) / _NOTES).write_text(notes, encoding="utf-8")


_NOTES = "notes.json"


def _import_ray() -> Any:
    keep_packages_quiet()
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.train")
    except ModuleNotFoundError as fault:
        raise MissingExtraError(fault.name or "ray", extra="ray") from None
    return ray


@contextlib.contextmanager
def _cluster(ray: Any, workers: int) -> Iterator[bool]:
    """A connection to a cluster that can hold the workers; yields whether they get a GPU each.

    Raises:
        TrainingError: it cannot.
    """
    ours = not ray.is_initialized()
    if ours:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        there = ray.cluster_resources()
        on_gpu = there.get("GPU", 0) >= workers
        # Waiting for processors that never come looks like a run that hangs.
        if not on_gpu and there.get("CPU", 0) < workers:
            raise TrainingError(
                f"the Ray cluster has {there.get('CPU', 0):g} CPUs for {workers} workers",
                hint="--ray with fewer, or add machines to the cluster",
            )
        yield on_gpu
    finally:
        if ours:
            ray.shutdown()


def _absolute(recipe: Recipe) -> dict[str, Any]:
    """A recipe's values with whole paths: workers run in directories of their own."""
    values = recipe.to_json()
    values["encoder"] = str(Path(recipe.encoder).absolute())
    for name in ("train", "dev"):
        if values["data"][name]:
            values["data"][name] = str(Path(values["data"][name]).absolute())
    if recipe.embed.teacher:
        values["embed"]["teacher"] = str(Path(recipe.embed.teacher).absolute())
    return values


def _translated(fault: BaseException) -> TrainingError:
    """A worker's own words, where it was one of our errors; else what Ray says first."""
    failures = getattr(fault, "worker_failures", {}) or {}
    for failure in failures.values():
        cause = getattr(failure, "cause", failure)
        for found in (cause, failure):
            if isinstance(found, TrainingError):
                return TrainingError(found.message, hint=found.hint)
    line = (str(fault).strip().splitlines() or ["no reason was given"])[0]
    return TrainingError(
        f"a worker failed: {line}",
        hint="started again, the run continues from its last checkpoint",
    )


def _outcome(directory: Path) -> dict[str, Any]:
    """What the first worker left.

    Raises:
        TrainingError: nothing is there; the workers and this process see different directories.
    """
    try:
        record: dict[str, Any] = json.loads((directory / "record.json").read_text("utf-8"))
        record["notes"] = json.loads((directory / _NOTES).read_text("utf-8"))
    except FileNotFoundError:
        raise TrainingError(
            f"{directory}: the workers wrote it where this machine does not see it",
            hint="--out must lie on storage that all machines of the cluster share",
        ) from None
    return record
