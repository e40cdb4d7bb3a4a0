"""A run's directory, `OUT.run` beside its target: what survives a kill, and what is left to read.

    run.json          which run this is: digests of recipe, data, encoder
    recipe.toml       the recipe, every default said
    metrics.jsonl     a line for each step
    state.pt          the last checkpoint; gone once the model is written
    best.pt           the weights of the best epoch; likewise
    record.json       hardware, versions, time and energy, once the model is written
    curves.png        loss, rate and dev score over the run
    tracker.json      where a tracker has the run, if one follows it

Every file appears whole or not at all. One process writes; a second run of the same target is
refused while the first lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xlmr.errors import TrainingError
from xlmr.training.loop import State, Step
from xlmr.wholly import appearing, write_whole

_STATE, _BEST, _METRICS, _IDENTITY = "state.pt", "best.pt", "metrics.jsonl", "run.json"


class RunDirectory:
    """See the module. Made by `open_run`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def unfinished(self) -> bool:
        """Whether a checkpoint waits to be continued."""
        return (self.path / _STATE).exists()

    def save(self, state: State) -> None:
        """Writes a checkpoint."""
        _save_tensors(self.path / _STATE, state.to_dict())

    def restore(self, state: State, *, leads: bool = True) -> None:
        """Continues from the last checkpoint; only the leading process tidies the notes.

        Raises:
            TrainingError: it cannot be read.
        """
        state.load(_load_tensors(self.path / _STATE))
        if leads:
            self._forget_after(state.number)

    def save_best(self, state: State) -> None:
        """Keeps the weights as they are now."""
        _save_tensors(self.path / _BEST, state.to_dict()["weights"])

    def best(self) -> Mapping[str, Any] | None:
        """The weights that were kept, if any."""
        place = self.path / _BEST
        return _load_tensors(place) if place.exists() else None

    def note(self, step: Step) -> None:
        """Adds a line about a step."""
        with (self.path / _METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(step)) + "\n")

    def steps(self) -> Iterator[dict[str, Any]]:
        """What was noted; a last line that a kill cut short is left out."""
        place = self.path / _METRICS
        for line in place.read_text(encoding="utf-8").splitlines() if place.exists() else ():
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)

    def finish(self, record: Mapping[str, Any]) -> None:
        """Leaves what is worth reading."""
        write_whole(self.path / "record.json", json.dumps(record, indent=2) + "\n")
        for name in (_STATE, _BEST):
            (self.path / name).unlink(missing_ok=True)

    def _forget_after(self, number: int) -> None:
        """Drops lines of steps that the checkpoint does not know: they are taken again."""
        kept = [json.dumps(step) for step in self.steps() if step["number"] <= number]
        write_whole(self.path / _METRICS, "".join(f"{line}\n" for line in kept))


def run_path(out: Path) -> Path:
    """Where the run of a target lies."""
    return out.with_name(f"{out.name}.run")


@contextlib.contextmanager
def open_run(
    out: Path, identity: Mapping[str, Any], recipe_toml: str, *, fresh: bool
) -> Iterator[RunDirectory]:
    """The run directory of a target, for this process alone until it is done with it.

    Args:
        out: the model directory that will be written.
        identity: what makes two runs the same; plain values.
        recipe_toml: the recipe as a file.
        fresh: forget an unfinished run instead of continuing it.

    Raises:
        TrainingError: another process runs there, or an unfinished run of another recipe, encoder
            or data lies there.
    """
    path = run_path(out)
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(
                f"{path}: another run is going on there",
                hint="wait for it, or choose another --out",
            ) from None
        # What a killed run was writing; checkpoints are large.
        for draft in path.glob(".*.partial"):
            draft.unlink()
        run = RunDirectory(path)
        if fresh or not run.unfinished:
            for name in (_STATE, _BEST, _METRICS, "record.json", "curves.png", "tracker.json"):
                (path / name).unlink(missing_ok=True)
        elif (changed := _changed(path / _IDENTITY, identity)) is not None:
            raise TrainingError(
                f"{path}: an unfinished run lies there, and its {changed} is not this one's",
                hint="--fresh forgets it; or choose another --out",
            )
        write_whole(path / _IDENTITY, json.dumps(identity, indent=2) + "\n")
        write_whole(path / "recipe.toml", recipe_toml)
        yield run


def _changed(path: Path, identity: Mapping[str, Any]) -> str | None:
    """The first part of a run's identity that is not as it was; None where all are."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return "identity"
    now = json.loads(json.dumps(identity))
    return next((name for name in now if before.get(name) != now[name]), None)


def _save_tensors(path: Path, value: Mapping[str, Any]) -> None:
    import torch

    try:
        with appearing(path) as file:
            torch.save(dict(value), file)
    except (OSError, RuntimeError) as fault:  # torch reports a full disk as a RuntimeError
        raise TrainingError(
            f"{path}: the checkpoint cannot be written: {fault}",
            hint="free some space; the run continues from the last checkpoint",
        ) from fault


def _load_tensors(path: Path) -> dict[str, Any]:
    import torch

    try:
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError) as fault:
        raise TrainingError(
            f"{path}: not a checkpoint that can be read", hint="--fresh starts the run again"
        ) from fault
    return loaded
