"""The protocol's repository: what is loaded, and for operators, loading and unloading by name."""

from __future__ import annotations

from typing import Any

import msgspec

from xlmr.serving import repository
from xlmr.serving.dataplane import Dataplane
from xlmr.serving.http.bodies import Decoder
from xlmr.serving.http.endpoint import Call
from xlmr.serving.http.problems import Reply


class OipIndexRequest(msgspec.Struct, kw_only=True):
    """`ready`: only versions that answer. An empty body asks for all."""

    ready: bool = False


class OipIndexed(msgspec.Struct, kw_only=True):
    """A version: `READY`, `LOADING`, `UNLOADING`, or `UNAVAILABLE` for a `reason`."""

    name: str
    version: str
    state: str
    reason: str = ""


class OipRepositoryRequest(msgspec.Struct, kw_only=True):
    """`parameters` of a load are refused: a model is what lies in its directory."""

    parameters: dict[str, Any] = {}


class OipDone(msgspec.Struct, kw_only=True):
    """It is done."""


_decode_index = Decoder(OipIndexRequest)
_decode = Decoder(OipRepositoryRequest)
_encoder = msgspec.json.Encoder()
_DONE = Reply(_encoder.encode(OipDone()))


async def show_index(plane: Dataplane, call: Call) -> Reply:
    """Every version with its state."""
    asked = _decode_index(call.body) if call.body else OipIndexRequest()
    listed = [
        OipIndexed(name=one.name, version=one.version, state=state, reason=one.reason)
        for one, state in repository.index(plane, ready=asked.ready)
    ]
    return Reply(_encoder.encode(listed))


async def load(plane: Dataplane, call: Call) -> Reply:
    """Answers once the model is ready; raises as `xlmr.serving.repository.load`."""
    await repository.load(plane, call.path_params["model"], _parameters(call))
    return _DONE


async def unload(plane: Dataplane, call: Call) -> Reply:
    """Raises as `xlmr.serving.repository.unload`. Parameters change nothing: none depend on it."""
    _parameters(call)
    repository.unload(plane, call.path_params["model"])
    return _DONE


def _parameters(call: Call) -> dict[str, Any]:
    return _decode(call.body).parameters if call.body else {}
