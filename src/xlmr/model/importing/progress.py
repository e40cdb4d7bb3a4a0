"""How an import tells what it is doing: facts go out, whoever called decides how to show them."""

from __future__ import annotations

from collections.abc import Callable

# (step, done, total): a step's name and how much of it is done, in bytes; 0 where the total is
# unknown. Steps follow one another; one that reaches its total is finished.
Progress = Callable[[str, int, int], None]


def silent(step: str, done: int, total: int) -> None:
    """The progress of a caller who does not want to know."""
