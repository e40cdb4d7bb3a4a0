"""Reads the 4-bit encoder file of the starter model: magic `E5S1`, little endian.

Everything in it is checked against the file's size before it is used: a truncated or foreign file
ends in a `WeightsError`, never in a crash or in silent nonsense.

    magic `E5S1`, u32 version
    i32 hidden, layers, heads, inner, vocabulary, positions, token types; f32 epsilon; i32 block
    i32 n, bos, eos, pad, unk; u64 b; u32 offsets[n + 1]; f32 scores[n]; b bytes;
        i32; u32 m; m bytes                                        (its own tokenizer; not read)
    i32 tensors; each: u16 length, name, u8 type, u32 elements, u64 offset from the start, u64 bytes

Shapes: R rows, C columns, K blocks of 32 weights.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import WeightsError

_BLOCK = 32
_BLOCK_BYTES = 18
_FLOAT, _FOUR_BIT = 0, 1
_BLOCK_DTYPE = np.dtype([("scale", "<f2"), ("nibbles", "u1", (16,))])


class Dimensions(NamedTuple):
    """The file's own account of its architecture, in its order; widths in elements."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    token_types: int
    norm_epsilon: float
    block: int


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: int
    elements: int
    start: int
    size_bytes: int


class E5S1File:
    """The encoder's arrays by the file's own names: `emb.word`, `l0.q.w`, `l11.oln.b`.

    Raises:
        WeightsError: the content is truncated, foreign or inconsistent.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        try:
            self.dimensions, tensors_at = self._read_head()
            self._entries = self._read_table(tensors_at)
        except (struct.error, UnicodeDecodeError) as fault:
            raise _damaged(f"it ends inside its header ({fault})") from fault

    def _read_head(self) -> tuple[Dimensions, int]:
        magic, version = struct.unpack_from("<4sI", self._content, 0)
        if magic != b"E5S1" or version != 1:
            raise _damaged(f"magic {magic!r}, version {version}; expected b'E5S1', 1")
        size = Dimensions._make(struct.unpack_from("<7ifi", self._content, 8))
        counts = size[:7]
        sane = min(counts) >= 1 and max(counts) <= 1 << 24 and 0 < size.norm_epsilon < 1e-2
        if not sane or size.block != _BLOCK or size.hidden % _BLOCK or size.inner % _BLOCK:
            raise _damaged(f"impossible dimensions {tuple(size)}")
        # A float32 prints as what it stood for: 1e-12, not 9.99999996e-13.
        size = size._replace(norm_epsilon=float(f"{size.norm_epsilon:.6g}"))
        at = 8 + struct.calcsize("<7ifi")
        (pieces, blob_bytes) = struct.unpack_from("<i16xQ", self._content, at)
        if not 0 <= pieces <= len(self._content) // 8:
            raise _damaged(f"{pieces} tokenizer pieces")
        at += struct.calcsize("<i16xQ") + 4 * (pieces + 1) + 4 * pieces + blob_bytes
        (norm_bytes,) = struct.unpack_from("<4xI", self._content, self._inside(at))
        return size, at + 8 + norm_bytes

    def _read_table(self, at: int) -> dict[str, _Entry]:
        (tensors,) = struct.unpack_from("<i", self._content, self._inside(at))
        at += 4
        entries: dict[str, _Entry] = {}
        for _ in range(tensors):
            (length,) = struct.unpack_from("<H", self._content, self._inside(at))
            name = self._content[at + 2 : at + 2 + length].decode()
            fields = struct.unpack_from("<BIQQ", self._content, self._inside(at + 2 + length))
            entries[name] = self._checked(name, _Entry(*fields))
            at += 2 + length + struct.calcsize("<BIQQ")
        return entries

    def _checked(self, name: str, entry: _Entry) -> _Entry:
        expected = {
            _FLOAT: 4 * entry.elements,
            _FOUR_BIT: entry.elements // _BLOCK * _BLOCK_BYTES,
        }
        if expected.get(entry.kind) != entry.size_bytes:
            raise _damaged(f"{name} has {entry.size_bytes} bytes for {entry.elements} elements")
        self._inside(entry.start + entry.size_bytes)
        return entry

    def _inside(self, at: int) -> int:
        if at > len(self._content):
            raise _damaged(f"{at - len(self._content)} bytes are missing")
        return at

    def rows(
        self, name: str, rows: int, columns: int, *, chunk_rows: int = 8192
    ) -> Iterator[NDArray[np.float32]]:
        """A matrix [rows, columns] in chunks of whole rows, as float32.

        Raises:
            WeightsError: no such array, or not of that size.
        """
        entry = self._find(name, rows * columns)
        width = entry.size_bytes // rows
        for first in range(0, rows, chunk_rows):
            count = min(chunk_rows, rows - first)
            start = entry.start + first * width
            raw = self._content[start : start + count * width]
            if entry.kind == _FLOAT:
                yield np.frombuffer(raw, "<f4").reshape(count, columns)
            else:
                yield _widen(raw).reshape(count, columns)

    def vector(self, name: str, elements: int) -> NDArray[np.float32]:
        """A vector [elements], float32.

        Raises:
            WeightsError: no such array, or not of that size.
        """
        return next(self.rows(name, 1, elements)).reshape(-1)

    def _find(self, name: str, elements: int) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise _damaged(f"{name} is missing")
        if entry.elements != elements:
            raise _damaged(f"{name} has {entry.elements} elements, expected {elements}")
        return entry


def _widen(raw: bytes) -> NDArray[np.float32]:
    """Blocks of an f16 scale and 16 bytes: low nibbles are weights 0-15, high ones 16-31."""
    blocks_K = np.frombuffer(raw, _BLOCK_DTYPE)
    nibbles = blocks_K["nibbles"]
    weights_KC = np.empty((len(blocks_K), _BLOCK), np.float32)
    weights_KC[:, :16] = nibbles & 0x0F
    weights_KC[:, 16:] = nibbles >> 4
    weights_KC -= 8
    weights_KC *= blocks_K["scale"].astype(np.float32)[:, None]
    return weights_KC


def _damaged(why: str) -> WeightsError:
    return WeightsError(
        f"the 4-bit encoder file cannot be used: {why}", hint="delete the download and import again"
    )
