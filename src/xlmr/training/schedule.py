"""Which rows meet in a batch, and how large a step the run takes there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Rows sorted by length together: enough for even batches, few enough to stay well shuffled.
_GROUP_BATCHES = 32


def token_batches(
    lengths: Sequence[int], *, budget: int, generator: np.random.Generator | None = None
) -> list[list[int]]:
    """Splits rows into batches whose longest length × rows stays within a budget of tokens.

    Rows of similar length meet, so that little is padded. With a generator, rows and batches come
    in random order; without, in order of length. A row longer than the budget makes its own batch.

    Returns:
        Every row's index exactly once.
    """
    order = np.arange(len(lengths)) if generator is None else generator.permutation(len(lengths))
    mean_length = max(1, sum(lengths) // max(1, len(lengths)))
    group = len(lengths) if generator is None else _GROUP_BATCHES * max(1, budget // mean_length)
    batches: list[list[int]] = []
    for start in range(0, len(order), max(1, group)):
        rows = sorted(order[start : start + group].tolist(), key=lambda row: lengths[row])
        batch: list[int] = []
        for row in rows:  # rising, so the newcomer is the longest
            if batch and lengths[row] * (len(batch) + 1) > budget:
                batches.append(batch)
                batch = []
            batch.append(row)
        batches.append(batch)
    if generator is not None:
        batches = [batches[i] for i in generator.permutation(len(batches))]
    return batches


def rate_factor(done: float, *, warmup: float) -> float:
    """What the learning rate is multiplied by after a share `done` (0 to 1) of the run.

    Rises from 0 to 1 over the share `warmup`, then falls to 0 in a straight line.
    """
    if done < warmup:
        return done / warmup
    return max(0.0, (1.0 - done) / (1.0 - warmup))
