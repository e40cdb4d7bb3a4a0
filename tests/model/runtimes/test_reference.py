from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tiny import RUNTIMES, tiny_model

from xlmr.errors import BudgetError, CancelledError, EngineError, InputError, SettingsError
from xlmr.model.bundle import Bundle, open_bundle
from xlmr.model.runtime import Runtime, pack
from xlmr.model.runtimes import open_runtime
from xlmr.types import Batch, Encoding


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(tiny_model(tmp_path_factory.mktemp("model"), "embed"))


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest, bundle: Bundle, tmp_path: Path) -> Iterator[Runtime]:
    name, precision = request.param
    opened = open_runtime(
        bundle, name=name, precision=precision, threads=1, batch_tokens=600, cache_dir=tmp_path
    )
    yield opened
    opened.close()


def batch(*lengths: int, token: int = 5) -> Batch:
    encodings = [
        Encoding(ids=(0, *[token] * (n - 2), 2), offsets=(), segments=(), total_tokens=n, unknown=0)
        for n in lengths
    ]
    return pack(encodings)


def test_packing() -> None:
    packed = batch(3, 2, token=9)
    np.testing.assert_array_equal(packed.ids_T, [0, 9, 2, 0, 2])
    np.testing.assert_array_equal(packed.starts, [0, 3, 5])
    assert packed.ids_T.dtype == packed.starts.dtype == np.int32


def test_all_rows(runtime: Runtime) -> None:
    hidden = runtime.run(batch(5, 2, 9))
    np.testing.assert_array_equal(hidden.starts, [0, 5, 7, 16])
    assert hidden.hidden_TD.shape == (16, 32)
    assert hidden.hidden_TD.dtype == np.float32


def test_first_rows_are_those_of_all_rows(runtime: Runtime) -> None:
    every, first = runtime.run(batch(5, 2, 9)), runtime.run(batch(5, 2, 9), rows="first")
    np.testing.assert_array_equal(first.starts, [0, 1, 2, 3])
    np.testing.assert_allclose(first.hidden_TD, every.hidden_TD[[0, 5, 7]], rtol=0, atol=1e-6)


def test_no_texts(runtime: Runtime) -> None:
    hidden = runtime.run(batch())
    assert hidden.hidden_TD.shape == (0, 32)
    np.testing.assert_array_equal(hidden.starts, [0])


def test_the_budget_is_at_least_the_longest_text(bundle: Bundle, runtime: Runtime) -> None:
    assert runtime.max_batch_tokens == 600
    small = open_runtime(bundle, name="reference", batch_tokens=1)
    assert small.max_batch_tokens == 512


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (batch(512, 89), BudgetError),
        (batch(513), InputError),
        (batch(4, token=100_000), InputError),
        (batch(4, token=-1), InputError),
        (Batch(np.array([0, 2], np.int32), np.array([0, 0, 2], np.int32)), InputError),
        (Batch(np.array([0, 2], np.int32), np.array([0, 1], np.int32)), InputError),
        (Batch(np.array([0, 2], np.int32), np.array([2, 0, 2], np.int32)), InputError),
        (Batch(np.array([0, 2], np.int32), np.array([0, 3, 1, 2], np.int32)), InputError),
    ],
)
def test_what_cannot_be_computed_is_refused(
    runtime: Runtime, wrong: Batch, fault: type[Exception]
) -> None:
    with pytest.raises(fault):
        runtime.run(wrong)


def test_warm_and_close_twice(runtime: Runtime) -> None:
    runtime.warm()
    runtime.close()
    runtime.close()
    with pytest.raises(EngineError, match="closed"):
        runtime.run(batch(4))


def test_what_is_given_up_ends_and_nothing_else(runtime: Runtime) -> None:
    packed = batch(5, 9)
    expected = runtime.run(packed).hidden_TD
    with pytest.raises(CancelledError, match="given up"):
        runtime.run(replace(packed, given_up=np.ones(1, np.uint8)))
    waited_for = replace(packed, given_up=np.zeros(1, np.uint8))
    np.testing.assert_array_equal(runtime.run(waited_for).hidden_TD, expected)


def test_an_unknown_name(bundle: Bundle) -> None:
    with pytest.raises(SettingsError, match="abacus"):
        open_runtime(bundle, name="abacus")


def test_it_says_what_it_is(runtime: Runtime, bundle: Bundle) -> None:
    kind: Any = runtime.name.split()[0]
    assert kind in ("reference", "native")
    assert "fp32" in runtime.name
    assert runtime.config == bundle.config
