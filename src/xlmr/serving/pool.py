"""The loaded models: opened, warmed, found by name and task, closed.

Models that share an encoder (a router and the embeddings it was fitted on) share one runtime, so
its weights lie in memory once and their texts are computed in the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xlmr.errors import InputError, ModelNotFoundError, SettingsError, TaskError
from xlmr.model.bundle import Bundle, open_bundle
from xlmr.model.predictor import Predictor
from xlmr.model.runtimes import open_runtime
from xlmr.serving.batcher import Batcher
from xlmr.types import ModelRef

if TYPE_CHECKING:
    from xlmr.model.runtime import Runtime
    from xlmr.settings import Settings
    from xlmr.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Served:
    """A model under the name it is served by, what it can do, and the batcher that computes it."""

    ref: ModelRef
    tasks: frozenset[str]
    predictor: Predictor
    batcher: Batcher


class Pool:
    """The models of a server. Unchanging once made."""

    def __init__(self, models: Mapping[str, Served]) -> None:
        self.models = dict(models)
        self._batchers = list({id(m.batcher): m.batcher for m in models.values()}.values())

    @property
    def alive(self) -> bool:
        """Whether every compute thread lives and moves."""
        return all(batcher.alive for batcher in self._batchers)

    @property
    def waiting_tokens(self) -> int:
        """Tokens in all queues."""
        return sum(batcher.waiting_tokens for batcher in self._batchers)

    def route(self, name: str | None, task: str) -> Served:
        """The model that answers; without a name, the only one that can.

        Raises:
            ModelNotFoundError: none of that name.
            TaskError: it cannot do the task, or no model can.
            InputError: no name, and several could.
        """
        if name is not None:
            served = self.models.get(name)
            if served is None:
                raise ModelNotFoundError(
                    f"no model of that name; loaded: {', '.join(self.models) or 'none'}"
                )
            if task not in served.tasks:
                able = ", ".join(sorted(served.tasks))
                raise TaskError(f"{name} cannot {task}", hint=f"it can {able}")
            return served
        able_models = [served for served in self.models.values() if task in served.tasks]
        if not able_models:
            raise TaskError(f"no loaded model can {task}")
        if len(able_models) > 1:
            names = ", ".join(served.ref.name for served in able_models)
            raise InputError(f"several models can {task}: {names}", path="$.model", hint="name one")
        return able_models[0]

    def close(self) -> None:
        """Finishes what is queued, then gives threads and memory back."""
        for batcher in self._batchers:
            batcher.close()
        for served in self.models.values():
            served.predictor.close()


def warm_runtime(bundle: Bundle, settings: Settings) -> Runtime:
    """Opens the runtime of a bundle's encoder as the settings say, ready to answer."""
    runtime = open_runtime(
        bundle,
        name=settings.runtime,
        precision=settings.precision,
        threads=settings.threads,
        isa=settings.isa,
        batch_tokens=settings.batch_tokens,
        cache_dir=settings.cache_dir,
    )
    runtime.warm()
    return runtime


def open_pool(
    places: Sequence[str],
    settings: Settings,
    metrics: Metrics,
    *,
    runtime_of: Callable[[Bundle, Settings], Runtime] = warm_runtime,
) -> Pool:
    """Opens and warms model directories, given as `DIR` or `NAME=DIR`.

    Raises:
        SettingsError: two models of one name.
        ModelError: a directory cannot be used.
    """
    directories = dict(_named(places))
    if len(directories) < len(places):
        raise SettingsError("two models have the same name", hint="name them: NAME=DIR")
    batchers: dict[str, Batcher] = {}
    runtimes: dict[str, Runtime] = {}
    models: dict[str, Served] = {}
    for name, directory in directories.items():
        bundle = open_bundle(directory, cache_dir=settings.cache_dir)
        encoder = bundle.encoder_digest
        if encoder not in runtimes:
            runtimes[encoder] = runtime_of(bundle, settings)
            batchers[encoder] = Batcher(
                runtimes[encoder],
                batch_tokens=max(settings.batch_tokens, bundle.max_tokens),
                queue_tokens=settings.queue_tokens,
                metrics=metrics,
            )
        predictor = Predictor(bundle, runtimes[encoder])
        models[name] = Served(
            ModelRef(name, bundle.digest), predictor.tasks, predictor, batchers[encoder]
        )
    pool = Pool(models)
    metrics.watch_queue(lambda: pool.waiting_tokens)
    return pool


def _named(places: Sequence[str]) -> list[tuple[str, Path]]:
    named = []
    for place in places:
        name, separator, directory = place.rpartition("=")
        path = Path(directory)
        named.append((name if separator else path.resolve().name, path))
    return named
