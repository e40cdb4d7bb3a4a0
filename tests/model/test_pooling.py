from __future__ import annotations

import numpy as np
import pytest

from xlmr.model.pooling import Pooling, normalise, pool, shorten

HIDDEN = np.array([[3, 4, 0], [1, 0, 2]], np.float32)


def test_mean_and_first_token() -> None:
    np.testing.assert_array_equal(pool(HIDDEN, "mean"), [2, 2, 1])
    np.testing.assert_array_equal(pool(HIDDEN, "cls"), [3, 4, 0])


def test_rows_that_a_pooling_reads() -> None:
    assert Pooling(kind="mean").rows == "all"
    assert Pooling(kind="cls").rows == "first"


def test_normalise() -> None:
    np.testing.assert_allclose(normalise(HIDDEN[0]), [0.6, 0.8, 0])
    assert normalise(HIDDEN[0]).dtype == np.float32


def test_a_zero_vector_stays_zero() -> None:
    np.testing.assert_array_equal(normalise(np.zeros(3, np.float32)), [0, 0, 0])


def test_a_large_vector_does_not_overflow() -> None:
    vector = np.full(4, 1e30, np.float32)
    np.testing.assert_allclose(normalise(vector), [0.5] * 4, rtol=1e-6)


@pytest.mark.parametrize(("normalize", "expected"), [(True, [0.6, 0.8]), (False, [3, 4])])
def test_shorten_cuts_and_normalises_again(normalize: bool, expected: list[float]) -> None:
    np.testing.assert_allclose(shorten(HIDDEN[0], 2, normalize=normalize), expected)
