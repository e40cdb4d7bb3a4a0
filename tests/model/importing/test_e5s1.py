from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.errors import WeightsError
from xlmr.model.importing.e5s1 import E5S1File


def four_bit(weights_RC: np.ndarray) -> bytes:
    """Block by block, number by number: written apart from the reader, to be checked against it."""
    packed = b""
    for block in weights_RC.reshape(-1, 32):
        scale = np.float16(np.abs(block).max() / 7 or 1)
        codes = [int(np.clip(round(float(w) / float(scale)), -8, 7)) + 8 for w in block]
        packed += struct.pack("<e", float(scale))
        packed += bytes(codes[i] | codes[i + 16] << 4 for i in range(16))
    return packed


def expected(packed: bytes) -> list[float]:
    values = []
    for start in range(0, len(packed), 18):
        (scale,) = struct.unpack_from("<e", packed, start)
        nibbles = packed[start + 2 : start + 18]
        values += [(byte % 16 - 8) * scale for byte in nibbles]
        values += [(byte // 16 - 8) * scale for byte in nibbles]
    return values


MATRIX = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
BIAS = np.arange(3, dtype=np.float32)


def small_file(**changed) -> bytes:
    values = {"magic": b"E5S1", "version": 1, "hidden": 64, "block": 32, "epsilon": 1e-12} | changed
    content = struct.pack("<4sI", values["magic"], values["version"])
    sizes = (values["hidden"], 1, 2, 32, 5, 4, 2)
    content += struct.pack("<7ifi", *sizes, values["epsilon"], values["block"])
    content += struct.pack("<5iQ", 2, 0, 2, 1, 3, 3)
    content += struct.pack("<3I2f", 0, 1, 3, -1.0, -2.0) + b"abc" + struct.pack("<iI", 0, 2) + b"nn"
    arrays = [(b"m", 1, MATRIX.size, four_bit(MATRIX)), (b"b", 0, 3, BIAS.tobytes())]
    table_bytes = sum(2 + len(name) + 21 for name, *_ in arrays)
    start = len(content) + 4 + table_bytes
    content += struct.pack("<i", len(arrays))
    for name, kind, elements, data in arrays:
        content += struct.pack("<H", len(name)) + name
        content += struct.pack("<BIQQ", kind, elements, start, len(data))
        start += len(data)
    return content + b"".join(data for *_, data in arrays)


def test_reads_dimensions_and_arrays():
    file = E5S1File(small_file())
    assert file.dimensions == (64, 1, 2, 32, 5, 4, 2, 1e-12, 32)
    whole = np.concatenate(list(file.rows("m", 5, 64, chunk_rows=2)))
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(
        whole, np.array(expected(four_bit(MATRIX)), np.float32).reshape(5, 64)
    )
    np.testing.assert_array_equal(next(file.rows("b", 1, 3))[0], BIAS)


@pytest.mark.parametrize(
    "changed",
    [
        {"magic": b"E5S2"},
        {"version": 2},
        {"hidden": 0},
        {"hidden": 33},
        {"block": 64},
        {"epsilon": 0},
    ],
)
def test_refuses_foreign_headers(changed):
    with pytest.raises(WeightsError):
        E5S1File(small_file(**changed))


@pytest.mark.parametrize(("name", "rows", "columns"), [("x", 5, 64), ("m", 4, 64), ("b", 1, 4)])
def test_refuses_missing_arrays_and_other_sizes(name, rows, columns):
    with pytest.raises(WeightsError):
        list(E5S1File(small_file()).rows(name, rows, columns))


@given(st.integers(0, len(small_file()) - 1))
def test_refuses_every_truncation(length):
    with pytest.raises(WeightsError):
        E5S1File(small_file()[:length])


@given(st.integers(0, len(small_file()) - 1), st.integers(0, 255))
def test_any_changed_byte_is_refused_or_read(position, value):
    content = bytearray(small_file())
    content[position] = value
    try:
        file = E5S1File(bytes(content))
        chunks = list(file.rows("m", 5, 64))
    except WeightsError:
        return
    assert [chunk.shape for chunk in chunks] == [(5, 64)]
