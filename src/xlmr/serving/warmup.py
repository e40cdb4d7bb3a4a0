"""How fast a runtime is before anybody asked it anything: a few batches, timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from xlmr.model.runtime import pack
from xlmr.types import Encoding

if TYPE_CHECKING:
    from xlmr.model.runtime import Runtime

# Lengths of the texts of each batch: short, longer, several, and the longest there is.
_BATCHES = ((16,), (128,), (32,) * 8, (512,))
# Of so many runs the fastest counts: whatever disturbs a run only slows it down.
_RUNS = 2


def timed_batches(
    runtime: Runtime, *, clock: Callable[[], float] = time.perf_counter
) -> list[tuple[int, int, float]]:
    """(tokens, squares, seconds) of a few batches, as `BatchSeconds` takes them.

    Raises:
        EngineError: the runtime failed.
    """
    most = min(runtime.config.max_tokens, runtime.max_batch_tokens)
    measured = []
    lengths: tuple[int, ...]
    for lengths in _BATCHES:
        lengths = tuple(min(length, most) for length in lengths)
        if sum(lengths) > runtime.max_batch_tokens:
            continue
        batch = pack([_text(length) for length in lengths])
        seconds = []
        for _ in range(_RUNS):
            started = clock()
            runtime.run(batch, rows="first")
            seconds.append(clock() - started)
        squares = sum(length * length for length in lengths)
        measured.append((sum(lengths), squares, min(seconds)))
    return measured


def _text(length: int) -> Encoding:
    """A text that says nothing: one token, again and again."""
    return Encoding(
        ids=(0,) * length,
        offsets=((0, 0),) * length,
        segments=(-1,) * length,
        total_tokens=length,
        unknown=0,
    )
