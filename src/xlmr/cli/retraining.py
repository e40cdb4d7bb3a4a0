"""Carries a retraining order out: data, training, gate, push, rollout; one step after the other.

Whatever a step leaves in the order's directory appears whole, and a step whose result is there is
not taken again: after a kill the same order goes on where it stood. The journal has a line for the
order and one for how it ended; between them nobody else orders.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from xlmr.cli.drift_reference import reference_command
from xlmr.cli.gate import gate_command
from xlmr.cli.train import train_command
from xlmr.drift.reference import read_reference
from xlmr.errors import (
    DataError,
    FeedbackUnavailableError,
    RegistryUnavailableError,
    XlmrError,
)
from xlmr.feedback.examples import examples_at
from xlmr.feedback.store import Store
from xlmr.loop.retrain import ENDED, Outcome, Training, outcome_detail
from xlmr.registry.journal import Line
from xlmr.registry.rollout.controller import Controller
from xlmr.registry.rollout.plan import Plan
from xlmr.training.joined import join_rows
from xlmr.training.recipe import Recipe
from xlmr.wholly import write_whole

_ROWS = ("train.jsonl", "dev.jsonl", "calibrate.jsonl")


def no_step(name: str) -> None:
    """Nothing happens between two steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What an order is carried out with.

    Attributes:
        recipe: the parent's.
        test: rows for the gate, which nobody learned from.
        policy: of the gate; None for the default one.
        plan: of the rollout.
        objective_ms: as `xlmr rollout start --objective-ms` takes it.
        step: told after each step; a test stops the process there.
    """

    recipe: Recipe
    test: Path
    policy: Path | None
    plan: Plan
    objective_ms: float | None = None
    step: Callable[[str], None] = no_step


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an order ended.

    Attributes:
        outcome: in the shadow, or refused by the gate.
        version: that was pushed; 0 for none.
        hours: of computing, all parts of a run that was interrupted together.
        why: what the gate says against it.
    """

    outcome: Outcome
    version: int
    hours: float
    why: tuple[str, ...] = ()


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[bool]:
    """Whether this process is the only one that works here; it stays so until the end.

    Raises:
        DataError: the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (directory / ".lock").open("w")
    except OSError as fault:
        raise DataError(f"{directory}: {fault.strerror}", hint="--work names another") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def order_path(directory: Path, order: int) -> Path:
    """Where an order is carried out."""
    return directory / f"order-{order}"


def carry_out(
    name: str,
    training: Training,
    means: Means,
    *,
    controller: Controller,
    store: Store,
    directory: Path,
) -> Ended:
    """Carries an open order out, from where it stands; afterwards it is closed.

    A registry or store that is away leaves it open: it goes on when it is asked for again. Any
    other fault closes it as failed.

    Raises:
        XlmrError: as the verbs it consists of.
    """
    place = order_path(directory, training.order)
    meter = _Meter(place / "seconds")
    work = _Work(name, training, means, controller, store, place, meter)
    try:
        _tidy(directory, keep=place)
        ended = work.whole()
        digest = hashlib.sha256((place / "train.jsonl").read_bytes()).hexdigest()
    except (RegistryUnavailableError, FeedbackUnavailableError):
        raise
    except (OSError, XlmrError) as fault:
        code = fault.code if isinstance(fault, XlmrError) else "disk"
        _close(controller, name, training, "failed", meter.hours, error=code)
        _forget_texts(place)
        if isinstance(fault, OSError):
            raise DataError(
                f"{place}: {fault.strerror}",
                hint="the order is closed; give it again once there is room to write",
            ) from fault
        raise
    said = {"version": ended.version} if ended.version else {}
    _close(controller, name, training, ended.outcome, ended.hours, data=digest, **said)
    means.step("closed")
    _forget_texts(place)
    if ended.outcome == "shadow":
        shutil.rmtree(place, ignore_errors=True)
    return ended


def abandon(controller: Controller, name: str, training: Training) -> None:
    """Closes an order that nobody will go on with."""
    _close(controller, name, training, "abandoned", 0.0)


@dataclass(frozen=True, slots=True)
class _Work:
    """The steps of an order."""

    name: str
    training: Training
    means: Means
    controller: Controller
    store: Store
    place: Path
    meter: _Meter

    def whole(self) -> Ended:
        """All steps that are left."""
        recipe = self._recipe()
        model = self.place / "model"
        if not model.exists():
            _verb(train_command, recipe, "--out", model)
        self._done("trained")
        report = self._report(model)
        decision = report["decision"]
        if not decision["released"]:
            why = tuple(reason["message"] for reason in decision["reasons"])
            return Ended(outcome="refused", version=0, hours=self.meter.hours, why=why)
        self._reference(model)
        reason = f"order {self.training.order}"
        version = self.controller.registry.push(self.name, model, reason=reason).version
        self._done("pushed")
        standing = self.controller.board.standing(self.name).rollout
        if standing is None or standing.state.candidate != str(version):
            self.controller.start(
                f"{self.name}@{version}",
                self.means.plan,
                reason=reason,
                report=report,
                objective_ms=self.means.objective_ms,
            )
        self._done("started")
        return Ended(outcome="shadow", version=version, hours=self.meter.hours)

    def _recipe(self) -> Path:
        """The recipe of the parent, over its data and all labels that were known at the order."""
        path = self.place / "recipe.toml"
        if not path.exists():
            self.place.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = examples_at(self.store, self.training.at_us, model=self.name)
            later = [
                {"text": e.text, "label": e.label, "language": e.language, "id": e.id}
                for e in found
            ]
            joined = join_rows(self.means.recipe, later, self.place)
            write_whole(path, joined.to_toml())
        self._done("joined")
        return path

    def _report(self, model: Path) -> Mapping[str, Any]:
        """What the gate says of the model against the parent."""
        path, live = self.place / "gate.json", self.place / "live"
        if not path.exists():
            if not live.exists():
                self.controller.registry.pull(f"{self.name}@{self.training.parent}", live)
            draft = self.place / "gate.draft.json"
            words = ["--data", self.means.test, "--against", live, "--out", draft]
            words += ["--policy", self.means.policy] if self.means.policy is not None else []
            # It exits with 1 where it refuses; the report says so as well.
            with contextlib.suppress(SystemExit):
                _verb(gate_command, model, *words)
            draft.replace(path)
        self._done("gated")
        report: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return report

    def _reference(self, model: Path) -> None:
        """Where the parent's traffic was held against a reference, the new version has one too."""
        if read_reference(self.place / "live") is not None and read_reference(model) is None:
            _verb(reference_command, model, "--data", self.means.test, "--source", "gate")
        self._done("referred")

    def _done(self, step: str) -> None:
        self.meter.note()
        self.means.step(step)


class _Meter:
    """Hours that an order took, over all processes that worked at it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = float(path.read_text()) if path.exists() else 0.0
        self._started = time.monotonic()

    @property
    def hours(self) -> float:
        """So far."""
        return (self._before + time.monotonic() - self._started) / 3600.0

    def note(self) -> None:
        """Writes them down, so that a kill does not make them forgotten."""
        write_whole(self._path, f"{self.hours * 3600.0:.3f}")


def _verb(command: click.Command, *words: object) -> None:
    """A verb as it is typed; what it says goes to stderr, for stdout has the order's outcome."""
    with contextlib.redirect_stdout(sys.stderr):
        command.main([str(word) for word in words], standalone_mode=False)


def _close(
    controller: Controller,
    name: str,
    training: Training,
    outcome: Outcome,
    hours: float,
    **more: Any,
) -> None:
    version = more.get("version", training.parent)
    detail = outcome_detail(training.order, outcome, hours=hours, **more)
    actor = controller.registry.actor.name
    line = Line(actor=actor, action=ENDED, name=name, version=version, detail=detail)
    with controller.registry.catalogue.change() as change:
        change.note(replace(line, reason=f"order {training.order}: {outcome}"))


def _tidy(directory: Path, *, keep: Path) -> None:
    """Removes what orders of before left."""
    for old in directory.glob("order-*"):
        if old != keep:
            shutil.rmtree(old, ignore_errors=True)


def _forget_texts(place: Path) -> None:
    """What else there is may be looked at until the next order."""
    for name in _ROWS:
        (place / name).unlink(missing_ok=True)
