from __future__ import annotations

import os
import socket

import numpy as np
import pytest

from xlmr.errors import (
    BudgetError,
    CancelledError,
    EngineError,
    InputError,
    ModelRefusedError,
    NonFiniteError,
    WeightsError,
)
from xlmr.model.runtime import pack
from xlmr.serving import wire
from xlmr.types import Hidden


@pytest.fixture
def ends():
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@pytest.fixture
def slate(watched):
    memory = wire.shared_memory(watched.config, 8)
    yield wire.Slate(memory, watched.config, 8)
    os.close(memory)


def test_what_is_said_arrives(ends):
    one, other = ends
    wire.send(one, wire.Frame("order", content=b'{"a": 1}'))
    wire.send(one, wire.Frame("hidden", 7, 9))
    assert wire.receive(other).json() == {"a": 1}
    assert wire.receive(other) == wire.Frame("hidden", 7, 9)


def test_the_end_and_silence_are_told_apart_from_nothing(ends):
    one, other = ends
    one.settimeout(0.01)
    with pytest.raises(wire.GoneError, match="silent"):
        wire.receive(one)
    other.sendall(b"\x01\x00")
    other.close()
    with pytest.raises(wire.GoneError, match="closed"):
        wire.receive(one)
    with pytest.raises(wire.GoneError, match="closed"):
        wire.send(one, wire.Frame("ready"))


@pytest.mark.parametrize("said", [b"\xff" * 16, b"\x00" * 12 + b"\xff\xff\xff\x7f"])
def test_nonsense_is_no_frame(ends, said):
    one, other = ends
    one.sendall(said)
    with pytest.raises(wire.GoneError, match="not a frame"):
        wire.receive(other)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff"])
def test_an_order_is_an_object(content):
    with pytest.raises(wire.GoneError):
        wire.Frame("order", content=content).json()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (InputError("no", path="$[3]", hint="do"), InputError),
        (BudgetError("no", hint="do"), BudgetError),
        (NonFiniteError("no", hint="do"), NonFiniteError),
        (WeightsError("no", hint="do"), WeightsError),
        (ModelRefusedError("no", field="config.json x", hint="do"), ModelRefusedError),
        (CancelledError("no", hint="do"), EngineError),
    ],
)
def test_errors_keep_their_kind_and_words(fault, kind):
    back = wire.fault_of(wire.fault_frame(fault))
    assert type(back) is kind
    assert (str(back), back.hint) == (str(fault), "do")


@pytest.mark.parametrize("rows", ["all", "first"])
def test_batches_and_vectors_lie_where_both_find_them(slate, watched, encode, rows):
    batch = pack([encode(0, 5, 2), encode(0, 2)])
    read, asked = slate.read_batch(slate.write_batch(batch, rows))
    assert asked == rows
    assert read.ids_T.tolist() == batch.ids_T.tolist()
    assert read.starts.tolist() == batch.starts.tolist()
    hidden = watched.run(read, rows=rows)
    back = slate.read_hidden(slate.write_hidden(hidden.hidden_TD), batch, rows)
    assert np.array_equal(back.hidden_TD, hidden.hidden_TD)
    assert back.starts.tolist() == hidden.starts.tolist()


def test_vectors_of_another_batch_are_not_taken(slate, encode):
    batch = pack([encode(0, 5, 2)])
    frame = slate.write_hidden(Hidden(np.zeros((2, 2), np.float32), batch.starts).hidden_TD)
    with pytest.raises(wire.GoneError, match="not the answer"):
        slate.read_hidden(frame, batch, "all")
    with pytest.raises(wire.GoneError, match="not the answer"):
        slate.read_hidden(wire.Frame("ready", 3), batch, "all")
