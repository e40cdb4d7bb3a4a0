"""Factors that keep int8 from being spent on a few large elements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xlmr.model.config import EncoderConfig
from xlmr.model.encoder import encode
from xlmr.model.runtimes import _native
from xlmr.model.runtimes.native import NativeRuntime
from xlmr.model.runtimes.smoothing import smoothed, smoothing
from xlmr.model.weights import random_weights
from xlmr.types import Batch

CONFIG = EncoderConfig(
    vocabulary=200,
    hidden=64,
    layers=3,
    heads=4,
    intermediate=128,
    position_rows=80,
    pad_id=1,
    norm_epsilon=1e-5,
    pre_norm=False,
)
# As in real checkpoints: two elements that every norm makes far larger than the others.
LARGE = (7, 40)


def weights_with_large_elements(config: EncoderConfig) -> dict[str, Any]:
    weights = {name: np.array(array) for name, array in random_weights(config, 3).items()}
    for name, array in weights.items():
        if name.endswith("norm.weight"):
            array[list(LARGE)] = 30.0
        elif name.startswith("layers.") and array.ndim == 2:
            array *= 8.0  # or the residual stream would be all of the answer
            if array.shape[1] == config.hidden and "output" not in name:
                array[:, list(LARGE)] /= 30.0
    return weights


def cosines(weights: Mapping[str, Any], config: EncoderConfig, path: Path, source: Any) -> Any:
    """Of every token, int8 of the engine to float32 of the reference."""
    shape = _native.Shape(**asdict(config))
    _native.prepare(
        str(path), shape, "int8", "digest", lambda name: np.asarray(source(name), np.float32)
    )
    engine = _native.Engine(str(path), shape, "int8", "digest", "auto", 1)
    ids = np.random.default_rng(5).integers(0, config.vocabulary, 60).astype(np.int32)
    batch = Batch(ids_T=ids, starts=np.array([0, 20, 60], np.int32))
    got = NativeRuntime(engine, config, "int8", 4096).run(batch).hidden_TD
    wanted = encode(batch, weights, config)
    # Without the large elements, which alone would make any two rows look alike.
    got, wanted = np.delete(got, LARGE, axis=1), np.delete(wanted, LARGE, axis=1)
    sizes = np.linalg.norm(got, axis=1) * np.linalg.norm(wanted, axis=1)
    return np.sum(got * wanted, axis=1) / sizes


@pytest.mark.parametrize("pre_norm", [False, True])
def test_int8_loses_less_where_elements_are_large(tmp_path: Path, pre_norm: bool) -> None:
    config = replace(CONFIG, pre_norm=pre_norm)
    weights = weights_with_large_elements(config)

    def plain(name: str) -> Any:
        return np.ones(config.hidden) if name.endswith(".smoothing") else weights[name]

    before = 1 - cosines(weights, config, tmp_path / "before", plain)
    after = 1 - cosines(weights, config, tmp_path / "after", smoothed(weights.__getitem__, config))
    assert after.mean() < 0.5 * before.mean()


def test_large_elements_get_large_factors() -> None:
    found = smoothing(weights_with_large_elements(CONFIG), CONFIG)
    assert set(found) == {
        f"layers.{i}.{name}.smoothing" for i in range(3) for name in ("qkv", "up")
    }
    for factors in found.values():
        others = np.delete(factors, LARGE)
        assert factors[list(LARGE)].min() > 2 * others.max()
        assert np.mean(np.log2(factors)) == pytest.approx(0, abs=0.1)


def test_factors_are_steps_that_two_machines_agree_on() -> None:
    weights = weights_with_large_elements(CONFIG)
    found = smoothing(weights, CONFIG)
    nudged = smoothing({n: a * np.float32(1 + 1e-7) for n, a in weights.items()}, CONFIG)
    for name, factors in found.items():
        steps = np.log2(factors.astype(np.float64)) * 4
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-5)
        assert np.mean(factors == nudged[name]) > 0.98


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_left_to_the_engine_to_refuse(broken: float) -> None:
    weights = weights_with_large_elements(CONFIG)
    weights["layers.1.up.weight"][3, 4] = broken
    found = smoothing(weights, CONFIG)
    assert (found["layers.1.up.smoothing"] == 1).all()
    assert all(np.isfinite(factors).all() for factors in found.values())


def test_a_matrix_of_zeros_has_factors(tmp_path: Path) -> None:
    weights = weights_with_large_elements(CONFIG)
    for name in ("query", "key", "value"):
        weights[f"layers.0.{name}.weight"][:] = 0
    found = smoothing(weights, CONFIG)
    assert (found["layers.0.qkv.smoothing"] > 0).all()


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_factors_that_are_not_above_zero_are_refused(tmp_path: Path, value: float) -> None:
    weights = weights_with_large_elements(CONFIG)

    def source(name: str) -> Any:
        return np.full(CONFIG.hidden, value, np.float32) if ".smoothing" in name else weights[name]

    shape = _native.Shape(**asdict(CONFIG))
    with pytest.raises(_native.BrokenWeights, match=r"layers\.0\.qkv\.smoothing"):
        _native.prepare(str(tmp_path / "weights"), shape, "int8", "digest", source)
