"""Every row is learnt from once an epoch, within the budget; the rate rises, then falls to zero."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.training.schedule import rate_factor, token_batches

lengths = st.lists(st.integers(1, 100), max_size=200)


@given(lengths, st.integers(1, 300), st.one_of(st.none(), st.integers(0, 3)))
def test_batches_hold_every_row_once_within_the_budget(
    rows: list[int], budget: int, seed: int | None
) -> None:
    generator = None if seed is None else np.random.default_rng(seed)
    batches = token_batches(rows, budget=budget, generator=generator)
    assert sorted(row for batch in batches for row in batch) == list(range(len(rows)))
    for batch in batches:
        assert batch
        assert len(batch) == 1 or max(rows[row] for row in batch) * len(batch) <= budget


def test_rows_of_similar_length_meet() -> None:
    rows = np.random.default_rng(0).integers(5, 100, 2000).tolist()
    batches = token_batches(rows, budget=1000, generator=np.random.default_rng(1))
    padded = sum(max(rows[row] for row in batch) * len(batch) for batch in batches)
    assert padded < 1.15 * sum(rows)


def test_the_generator_decides_the_order() -> None:
    def order(seed: int) -> list[list[int]]:
        return token_batches([10] * 50, budget=40, generator=np.random.default_rng(seed))

    assert order(1) == order(1)
    assert order(1) != order(2)


@pytest.mark.parametrize(
    ("done", "factor"), [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.55, 0.5), (1.0, 0.0)]
)
def test_the_rate_rises_then_falls(done: float, factor: float) -> None:
    assert rate_factor(done, warmup=0.1) == pytest.approx(factor)


def test_without_warmup_it_starts_at_its_peak() -> None:
    assert rate_factor(0.0, warmup=0.0) == 1.0
