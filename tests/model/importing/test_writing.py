from __future__ import annotations

import hashlib

import numpy as np
import pytest
from safetensors import safe_open

from xlmr.errors import WeightsError
from xlmr.model.importing.writing import StoredArray, write_safetensors


def stored(name: str, array: np.ndarray, dtype: str = "F32", parts: int = 1) -> StoredArray:
    return StoredArray(name, dtype, array.shape, lambda: np.array_split(array, parts))


def test_safetensors_reads_what_is_written(tmp_path):
    path = tmp_path / "model.safetensors"
    wide = np.arange(12, dtype="<f4").reshape(4, 3)
    narrow = np.arange(5, dtype="<f2")
    brain = np.array([1, -2, 0.5], "<f4").view("<u4") >> 16
    steps = []
    digest = write_safetensors(
        path,
        [
            stored("b", narrow, "F16"),
            stored("c", brain.astype("<u2"), "BF16"),
            stored("a", wide, parts=3),
            stored("none", np.empty((0, 2), "<f4")),
        ],
        progress=lambda *step: steps.append(step),
    )
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    with safe_open(path, "numpy") as file:
        assert file.metadata() == {"format": "pt"}
        np.testing.assert_array_equal(file.get_tensor("a"), wide)
        np.testing.assert_array_equal(file.get_tensor("b"), narrow)
        assert file.get_slice("c").get_dtype() == "BF16"
        assert file.get_tensor("none").shape == (0, 2)
    assert steps[-1] == ("writing weights", 64, 64)


@pytest.mark.parametrize("dtype", ["F32", "F16"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_numbers_that_are_not_finite(tmp_path, dtype, value):
    array = np.array([0, value], {"F32": "<f4", "F16": "<f2"}[dtype])
    with pytest.raises(WeightsError, match="not finite"):
        write_safetensors(tmp_path / "x", [stored("w", array, dtype)])


@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC0])
def test_refuses_bfloat16_that_is_not_finite(tmp_path, bits):
    with pytest.raises(WeightsError, match="not finite"):
        write_safetensors(tmp_path / "x", [stored("w", np.array([bits], "<u2"), "BF16")])


def test_refuses_content_of_another_size(tmp_path):
    array = StoredArray("w", "F32", (3,), lambda: [np.zeros(2, "<f4")])
    with pytest.raises(WeightsError, match="8 bytes"):
        write_safetensors(tmp_path / "x", [array])
