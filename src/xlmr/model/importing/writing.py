"""Arrays become a safetensors file, one chunk at a time: memory stays small, formats are kept.

The format: a little-endian u64 header length, a JSON header padded with spaces to 8 bytes, then
the arrays end to end, in the header's order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import WeightsError
from xlmr.model.importing.progress import Progress, silent

# Bytes of one element, by the name safetensors gives the number format.
WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}
# Large enough that a call per chunk costs nothing, small enough for any machine's memory.
CHUNK_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array as a file holds it: read when its turn comes, in chunks, never widened.

    Attributes:
        name: name in the file to write.
        dtype: `F32`, `F16` or `BF16`.
        shape: shape in elements.
        chunks: gives the content in row-major order; each chunk is any contiguous array whose
            bytes are little-endian elements of `dtype`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    chunks: Callable[[], Iterable[NDArray[Any]]]

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole array."""
        return int(np.prod(self.shape, dtype=np.int64)) * WIDTHS[self.dtype]


def write_safetensors(
    path: Path, arrays: Sequence[StoredArray], *, progress: Progress = silent
) -> str:
    """Writes arrays, ordered by name, and returns the file's SHA-256 in hex.

    Raises:
        WeightsError: an array yields more or fewer bytes than its shape says, or a value that is
            not a finite number.
    """
    arrays = sorted(arrays, key=lambda array: (-WIDTHS[array.dtype], array.name))
    digest = hashlib.sha256()
    total = sum(array.size_bytes for array in arrays)
    done = 0
    with path.open("wb") as file:
        for piece in _header(arrays):
            file.write(piece)
            digest.update(piece)
        for array in arrays:
            start = done
            for chunk in array.chunks():
                raw = np.ascontiguousarray(chunk).reshape(-1).view(np.uint8)
                _check_finite(array, raw)
                file.write(raw.data)
                digest.update(raw.data)
                done += raw.nbytes
                progress("writing weights", done, total)
            if done - start != array.size_bytes:
                raise WeightsError(
                    f"{array.name}: {done - start} bytes for {array.dtype} {array.shape}"
                )
    return digest.hexdigest()


def _header(arrays: Sequence[StoredArray]) -> tuple[bytes, bytes]:
    header: dict[str, Mapping[str, Any]] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for array in arrays:
        end = offset + array.size_bytes
        header[array.name] = {
            "dtype": array.dtype,
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little"), text


def _check_finite(array: StoredArray, raw: NDArray[np.uint8]) -> None:
    if array.dtype == "BF16":
        finite = (raw.view("<u2") & 0x7F80 != 0x7F80).all()
    else:
        finite = np.isfinite(raw.view("<f4" if array.dtype == "F32" else "<f2")).all()
    if not finite:
        raise WeightsError(
            f"{array.name}: holds values that are not finite numbers",
            hint="the checkpoint is damaged, or its training diverged",
        )
