"""Which rows an epoch draws, which of them meet in a batch, and how large a step the run takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Rows sorted by length together: enough for even batches, few enough to stay well shuffled.
_GROUP_BATCHES = 32


def drawn_rows(
    languages: Sequence[str], *, balance: float, generator: np.random.Generator
) -> list[int]:
    """As many rows as there are, each language drawn in proportion to its rows ** balance.

    Balance 1 draws every row once; 0 draws every language as often as any other. Within a language
    no row comes a second time before all have come once.

    Returns:
        Places in `languages`, in no order that means anything.
    """
    if balance == 1.0:
        return list(range(len(languages)))
    language_N = np.array(languages)
    names, counts = np.unique(language_N, return_counts=True)
    shares = counts.astype(np.float64) ** balance
    wanted = _rounded(shares / shares.sum() * len(languages))
    drawn: list[int] = []
    for name, count in zip(names, wanted, strict=True):
        rows_N = np.flatnonzero(language_N == name)
        whole, rest = divmod(int(count), len(rows_N))
        drawn += rows_N.tolist() * whole
        drawn += generator.permutation(rows_N)[:rest].tolist()
    return drawn


def _rounded(shares_N: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole numbers with the same sum: the largest remainders are rounded up."""
    floor_N: NDArray[np.int64] = np.floor(shares_N).astype(np.int64)
    missing = round(float(shares_N.sum())) - int(floor_N.sum())
    floor_N[np.argsort(floor_N - shares_N, kind="stable")[:missing]] += 1
    return floor_N


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


def epoch_steps(
    lengths: Sequence[int],
    languages: Sequence[str],
    *,
    budget: int,
    balance: float,
    together: int,
    seed: int,
    epoch: int,
) -> list[list[list[int]]]:
    """An epoch as steps, each of at most `together` batches of rows; the same for the same numbers.

    Args:
        lengths: tokens of each row.
        languages: of each row.
        budget: longest row × rows of a batch, at most.
        balance: see `drawn_rows`.
        together: batches of one step: those accumulated, times the processes that share them.
        seed: of the run.
        epoch: from 0.
    """
    generator = np.random.default_rng([seed, epoch])
    drawn = drawn_rows(languages, balance=balance, generator=generator)
    batches = token_batches([lengths[i] for i in drawn], budget=budget, generator=generator)
    rows = [[drawn[i] for i in batch] for batch in batches]
    return [rows[i : i + together] for i in range(0, len(rows), together)]


def rate_factor(done: float, *, warmup: float) -> float:
    """What the learning rate is multiplied by after a share `done` (0 to 1) of the run.

    Rises from 0 to 1 over the share `warmup`, then falls to 0 in a straight line.
    """
    if done < warmup:
        return done / warmup
    return max(0.0, (1.0 - done) / (1.0 - warmup)) if warmup < 1.0 else 1.0
