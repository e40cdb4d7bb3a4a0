"""A tracker that only remembers what it was told: the fake that tests use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xlmr.training.loop import Step
from xlmr.training.recipe import Recipe


@dataclass
class Journal:
    """See the module.

    Attributes:
        name: as every tracker has one.
        known: what each start was given.
        steps: in the order they came.
        ends: the record of each end, None where a run failed.
    """

    name: str = "journal"
    known: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    ends: list[Mapping[str, Any] | None] = field(default_factory=list)

    def start(
        self, recipe: Recipe, identity: Mapping[str, Any], directory: Path, *, known: str
    ) -> str:
        """Notes it; the run is found again by its recipe."""
        self.known.append(known)
        return recipe.digest

    def step(self, step: Step) -> None:
        """Notes it."""
        self.steps.append(step)

    def finish(self, record: Mapping[str, Any] | None, directory: Path) -> None:
        """Notes it."""
        self.ends.append(record)
