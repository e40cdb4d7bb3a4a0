"""A recipe becomes a network: `Training` reads, encodes and prepares; its steps are the run.

What it yields is for showing. It keeps checkpoints and the best epoch by itself, so a run that was
killed continues where its last checkpoint stands, to the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xlmr.model.bundle import Bundle
from xlmr.training.checkpoint import (
    TOKENIZER_FILES,
    XLMR_JSON,
    lineage,
    link_files,
    write_json,
    write_model,
)
from xlmr.training.data import Examples
from xlmr.training.devices import Device, describe_device
from xlmr.training.evidence import evaluated_as, finish_with_evidence
from xlmr.training.fitted_head import fit_head
from xlmr.training.loop import DevScore, State, Step, load_weights, start, train
from xlmr.training.objective import Objective
from xlmr.training.objectives import make_objective
from xlmr.training.recipe import Recipe
from xlmr.training.rundir import RunDirectory
from xlmr.training.sentence_vectors import Told


class Training:
    """One run of a recipe.

    Args:
        recipe: what is run.
        bundle: the encoder.
        examples: the data.
        device: where it runs.
        objective: what is learned; that of the recipe's task where the caller gives none.
        told: hears how far it is where negatives are searched, or a teacher is asked, beforehand.

    Attributes:
        objective: what is learned.
        truncated: training rows that lost tokens.
        state: where the run stands; None before the first step.
        timings: how fast the written model answers; empty before it is written.
    """

    def __init__(
        self,
        recipe: Recipe,
        bundle: Bundle,
        examples: Examples,
        device: Device,
        *,
        objective: Objective | None = None,
        told: Told | None = None,
    ) -> None:
        self.recipe, self.bundle, self.examples, self.device = recipe, bundle, examples, device
        self.objective = objective or make_objective(bundle, recipe, examples, told=told)
        self.features = self.objective.encode(examples.train, learn=True)
        self.dev_features = self.objective.encode(examples.dev, learn=False)
        self.truncated = len({f.row for f in self.features if f.truncated})
        self.state: State | None = None
        self.timings: dict[str, Any] = {}

    def steps(self, directory: RunDirectory) -> Iterator[Step]:
        """Takes every step that is still to take; at the end the network is that of the best epoch.

        Args:
            directory: keeps checkpoints and notes; only the leading process writes there.

        Raises:
            TrainingError: see `loop.train`; or a checkpoint cannot be read or written.
        """
        with self.device.denormals_flushed():
            state = self.state = start(
                self.objective, [*self.features, *self.dev_features], self.recipe, self.device
            )
            if directory.unfinished:
                directory.restore(state, leads=self.device.leads)
            else:
                fit_head(state.network, self.objective, self.features, self.recipe, self.device)
            kept, saved = state.best, time.monotonic()
            for step in train(
                state,
                self.objective,
                self.features,
                self.examples.dev,
                self.dev_features,
                self.recipe,
                self.device,
            ):
                if self.device.leads:
                    directory.note(step)
                    if state.best is not kept:
                        directory.save_best(state)
                        kept = state.best
                    due = time.monotonic() - saved >= self.recipe.run.checkpoint_s
                    if step.ends_epoch or due:
                        directory.save(state)
                        saved = time.monotonic()
                yield step
            self.device.wait()
            if (best := directory.best()) is not None:
                load_weights(state.network, best)
            self.device.wait()  # no process may tidy up what another still reads

    @property
    def scores(self) -> list[DevScore]:
        """Of every epoch so far."""
        return self.state.scores if self.state else []

    def write(self, out: Path, *, force: bool) -> None:
        """Writes the model as a Hugging Face directory with its tokenizer, whole or not at all.

        Raises:
            ModelError: the target is taken, or the disk full or not writable.
        """
        content: dict[str, Any] = {"format": 1, "lineage": self.lineage()}

        def fill(fresh: Path) -> None:
            assert self.state is not None
            self.objective.save(self.state.network, fresh)
            link_files(self.bundle.directory, fresh, names=TOKENIZER_FILES)
            write_json(fresh / XLMR_JSON, content)
            self.timings = finish_with_evidence(
                fresh,
                content | {"report": self._report()},
                encoder=self.bundle.directory,
                name=self.recipe.name,
                files=self.examples.held_out,
                task=evaluated_as(self.recipe),
                settings=self.recipe.evidence,
            )

        write_model(out, fill, encoder=self.bundle.directory, force=force)

    def lineage(self) -> dict[str, Any]:
        """Where the model comes from."""
        return lineage(
            method=self.recipe.method,
            seed=self.recipe.seed,
            encoder=self.bundle.directory,
            encoder_digest=self.bundle.encoder_digest,
            data=self.examples.lineage(),
            options=_without_paths(self.recipe),
            packages=("numpy", "torch", "transformers", "accelerate", "tokenizers"),
        )

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same."""
        made = self.lineage()
        return {
            "recipe": self.recipe.digest,
            "encoder": made["encoder"]["digest"],
            "data": made["data"],
            "versions": made["versions"],
            "processes": self.device.processes,
        }

    def record(self, *, seconds: float, tokens: int) -> dict[str, Any]:
        """How the run went and what it ran on: what differs between runs that write the same."""
        return {
            "recipe": self.recipe.to_json(),
            "identity": self.identity(),
            "machine": describe_device(self.device),
            "steps": self.state.number if self.state else 0,
            "scores": [asdict(score) for score in self.scores],
            "truncated": self.truncated,
            "tokens": tokens,
            "seconds": round(seconds, 3),
            **self.timings,
        }

    def _report(self) -> dict[str, Any]:
        best = self.state.best if self.state else None
        return {"best": asdict(best) if best else None}


def _without_paths(recipe: Recipe) -> dict[str, Any]:
    """A recipe's values without where things lie on this machine; digests say what lay there."""
    values = recipe.to_json()
    del values["encoder"]
    for name in ("train", "dev", "calibrate"):
        del values["data"][name]
    values["embed"]["teacher"] = Path(recipe.embed.teacher).name
    return values
