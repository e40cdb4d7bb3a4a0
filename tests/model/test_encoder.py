"""The reference forward pass, piece by piece. test_parity.py holds the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.model.config import EncoderConfig
from xlmr.model.encoder import embed, encode, encode_text, erf, gelu, layer_norm, softmax
from xlmr.model.weights import random_weights
from xlmr.types import Batch


def config(**changed: object) -> EncoderConfig:
    fields = {
        "vocabulary": 50,
        "hidden": 16,
        "layers": 2,
        "heads": 4,
        "intermediate": 24,
        "position_rows": 12,
        "pad_id": 1,
        "norm_epsilon": 1e-5,
        "pre_norm": False,
    }
    return EncoderConfig(**fields | changed)  # type: ignore[arg-type]


def batch(*texts: list[int]) -> Batch:
    return Batch(
        ids_T=np.array([i for text in texts for i in text], np.int32),
        starts=np.cumsum([0, *map(len, texts)], dtype=np.int32),
    )


def test_erf_is_the_standard_librarys() -> None:
    x = np.linspace(-12, 12, 20_001)
    expected = np.array([math.erf(value) for value in x])
    np.testing.assert_allclose(erf(x), expected, rtol=0, atol=1e-11)


def test_erf_of_what_is_not_small() -> None:
    with np.errstate(all="raise", under="ignore"):
        found = erf(np.array([-np.inf, -1e300, 0.0, 1e300, np.inf]))
    np.testing.assert_allclose(found, [-1, -1, 0, 1, 1], rtol=0, atol=1e-11)


def test_gelu_is_exact_and_not_the_tanh_formula() -> None:
    # x Φ(x) with Φ from the standard library's erf.
    x = np.linspace(-6, 6, 1001, dtype=np.float32)
    exact = [value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x.tolist()]
    np.testing.assert_allclose(gelu(x), exact, rtol=0, atol=5e-7)
    assert gelu(x).dtype == np.float32


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=20))
def test_softmax_is_always_a_distribution(scores: list[float]) -> None:
    found = softmax(np.array(scores, np.float32))
    assert np.isfinite(found).all()
    assert found.sum() == pytest.approx(1, abs=1e-5)


def test_layer_norm_by_hand() -> None:
    weights = {"n.weight": np.array([2, 1], np.float32), "n.bias": np.array([0, 3], np.float32)}
    rows = np.array([[1, 3]], np.float32)  # mean 2, variance 1
    np.testing.assert_allclose(layer_norm(rows, weights, "n", 0.0), [[-2, 4]])


@pytest.mark.parametrize("pre_norm", [False, True])
def test_positions_start_after_the_padding_row(pre_norm: bool) -> None:
    shape = config(pre_norm=pre_norm)
    weights = dict(random_weights(shape, seed=0))
    positions = weights["embeddings.position"].copy()
    positions[:2] = np.nan
    weights["embeddings.position"] = positions
    longest = np.arange(shape.max_tokens, dtype=np.int32)
    assert shape.max_tokens == 10
    assert np.isfinite(encode_text(longest, weights, shape)).all()
    positions[2] = np.nan
    assert np.isnan(embed(longest, weights, shape)[0]).all()
    assert np.isfinite(embed(longest, weights, shape)[1:]).all()


def test_pre_norm_leaves_the_embeddings_as_they_are() -> None:
    shape = config(pre_norm=True)
    weights = random_weights(shape, seed=0)
    expected = weights["embeddings.word"][7] + weights["embeddings.position"][2]
    expected = expected + weights["embeddings.type"][0]
    found = embed(np.array([7], np.int32), weights, shape)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_an_answer_does_not_depend_on_its_batch_mates(pre_norm: bool) -> None:
    shape = config(pre_norm=pre_norm)
    weights = random_weights(shape, seed=1)
    together = encode(batch([0, 9, 2], [0, 5, 6, 7, 2], [0, 2]), weights, shape)
    alone = encode(batch([0, 5, 6, 7, 2]), weights, shape)
    np.testing.assert_array_equal(together[3:8], alone)


def test_no_texts_make_no_rows() -> None:
    shape = config()
    assert encode(batch(), random_weights(shape, seed=0), shape).shape == (0, 16)
