"""What a server and its worker processes say to each other.

Numbers travel through memory that both have mapped: token ids one way, vectors the other. A pair of
sockets carries only small frames that say what lies there; its end is how either learns of the
other's death. One batch is under way at a time.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import (
    BudgetError,
    DigestMismatchError,
    EngineError,
    InputError,
    ModelNotFoundError,
    ModelRefusedError,
    NonFiniteError,
    SettingsError,
    WeightsError,
    XlmrError,
)
from xlmr.model.config import EncoderConfig
from xlmr.types import Batch, Hidden, Rows

# Kind, two numbers, and the size of what follows.
_FRAME = struct.Struct("<IIII")
_LARGEST = 1 << 20

Kind = Literal["order", "ready", "batch", "hidden", "fault"]
_KINDS: tuple[Kind, ...] = ("order", "ready", "batch", "hidden", "fault")

# Errors that keep their kind on the way; any other becomes an `EngineError`.
_ERRORS: Mapping[str, type[XlmrError]] = {
    kind.code: kind
    for kind in (
        BudgetError,
        EngineError,
        NonFiniteError,
        ModelNotFoundError,
        WeightsError,
        DigestMismatchError,
        SettingsError,
    )
}


class GoneError(Exception):
    """The other side has died, hangs, or says what cannot be."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One thing said: for `batch` how many texts and tokens, for `hidden` how many rows."""

    kind: Kind
    first: int = 0
    second: int = 0
    content: bytes = b""

    def json(self) -> dict[str, Any]:
        """The content as an object.

        Raises:
            GoneError: it is none.
        """
        try:
            value = json.loads(self.content)
        except ValueError as fault:
            raise GoneError("not JSON") from fault
        if not isinstance(value, dict):
            raise GoneError("not an object")
        return value


def send(line: socket.socket, frame: Frame) -> None:
    """Says it.

    Raises:
        GoneError: nobody is there.
    """
    header = _FRAME.pack(_KINDS.index(frame.kind), frame.first, frame.second, len(frame.content))
    try:
        line.sendall(header + frame.content)
    except OSError as fault:
        raise GoneError("closed") from fault


def receive(line: socket.socket) -> Frame:
    """What is said next; waits as long as the socket's own timeout allows.

    Raises:
        GoneError: the end, or silence for too long.
    """
    kind, first, second, size = _FRAME.unpack(_exactly(line, _FRAME.size))
    if kind >= len(_KINDS) or size > _LARGEST:
        raise GoneError("not a frame")
    return Frame(_KINDS[kind], first, second, _exactly(line, size))


def _exactly(line: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        try:
            more = line.recv(size - len(got))
        except OSError as fault:
            raise GoneError("silent" if isinstance(fault, TimeoutError) else "closed") from fault
        if not more:
            raise GoneError("closed")
        got += more
    return got


def fault_frame(fault: XlmrError) -> Frame:
    """An error on its way; its words are ours, never a caller's."""
    said = {"code": fault.code, "message": fault.message, "hint": fault.hint}
    if isinstance(fault, InputError):
        said["path"] = fault.path
    return Frame("fault", content=json.dumps(said).encode())


def fault_of(frame: Frame) -> XlmrError:
    """The error of a `fault` frame."""
    said = frame.json()
    message, hint = str(said.get("message")), str(said.get("hint"))
    if "path" in said:
        return InputError(message, path=str(said["path"]), hint=hint)
    if said.get("code") == ModelRefusedError.code:
        field, _, message = message.partition(": ")
        return ModelRefusedError(message, field=field, hint=hint)
    kind = _ERRORS.get(str(said.get("code")), EngineError)
    return kind(message, hint=hint)


def shared_memory(config: EncoderConfig, max_batch_tokens: int) -> int:
    """A descriptor of memory for the largest batch; it goes with the last who has it open."""
    size = _Layout.of(config, max_batch_tokens).size
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("xlmr-batch")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


class Slate:
    """The shared memory, read and written as arrays."""

    def __init__(self, descriptor: int, config: EncoderConfig, max_batch_tokens: int) -> None:
        layout = _Layout.of(config, max_batch_tokens)
        self._map = mmap.mmap(descriptor, layout.size)
        whole = np.frombuffer(self._map, np.uint8)
        self._ids = whole[: layout.starts].view(np.int32)
        self._starts = whole[layout.starts : layout.hidden].view(np.int32)
        self._hidden = whole[layout.hidden :].view(np.float32)
        self._width = config.hidden

    def write_batch(self, batch: Batch, rows: Rows) -> Frame:
        """Lays a batch down."""
        texts, tokens = len(batch.starts) - 1, len(batch.ids_T)
        self._ids[:tokens] = batch.ids_T
        self._starts[: texts + 1] = batch.starts
        return Frame("batch", texts, tokens, rows.encode())

    def read_batch(self, frame: Frame) -> tuple[Batch, Rows]:
        """The batch that lies there, not copied."""
        rows: Rows = "first" if frame.content == b"first" else "all"
        return Batch(self._ids[: frame.second], self._starts[: frame.first + 1]), rows

    def write_hidden(self, hidden_RD: NDArray[np.float32]) -> Frame:
        """Lays vectors down."""
        self._hidden[: hidden_RD.size] = hidden_RD.ravel()
        return Frame("hidden", len(hidden_RD))

    def read_hidden(self, frame: Frame, batch: Batch, rows: Rows) -> Hidden:
        """The vectors of a batch, copied: the next batch overwrites what lies there.

        Raises:
            GoneError: not as many as the batch asks for.
        """
        expected = len(batch.starts) - 1 if rows == "first" else len(batch.ids_T)
        if frame.kind != "hidden" or frame.first != expected:
            raise GoneError("not the answer")
        flat = self._hidden[: expected * self._width].copy()
        starts = np.arange(expected + 1, dtype=np.int32) if rows == "first" else batch.starts
        return Hidden(flat.reshape(expected, self._width), starts)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the parts begin, in bytes: ids at 0, then starts, then hidden rows."""

    starts: int
    hidden: int
    size: int

    @classmethod
    def of(cls, config: EncoderConfig, max_batch_tokens: int) -> _Layout:
        starts = _aligned(4 * max_batch_tokens)
        hidden = starts + _aligned(4 * (max_batch_tokens + 1))
        return cls(starts, hidden, hidden + 4 * max_batch_tokens * config.hidden)


def _aligned(size: int) -> int:
    return -(-size // 64) * 64
