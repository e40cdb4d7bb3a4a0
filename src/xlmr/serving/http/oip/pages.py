"""What the protocol tells of the server and its models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

import xlmr
from xlmr.serving.dataplane import Dataplane
from xlmr.serving.http.endpoint import Call
from xlmr.serving.http.health import require_ready
from xlmr.serving.http.oip.infer import model_of
from xlmr.serving.http.oip.messages import (
    OipConfig,
    OipConfigTensor,
    OipLive,
    OipModel,
    OipModelReady,
    OipReady,
    OipServer,
    OipTensor,
)
from xlmr.serving.http.problems import Reply
from xlmr.serving.tensors import CONFIG_TYPES, EXTENSIONS, Described, describe_model

_encoder = msgspec.json.Encoder()


def show_server(plane: Dataplane, call: Call) -> Reply:
    """Who this is."""
    return _json(OipServer(name="xlmr", version=xlmr.__version__, extensions=list(EXTENSIONS)))


def show_live(plane: Dataplane, call: Call) -> Reply:
    """200 while the compute threads move, else 503."""
    live = not plane.pool.vitals.dying()
    return _json(OipLive(live=live), 200 if live else 503)


def show_ready(plane: Dataplane, call: Call) -> Reply:
    """200 while requests should be sent here, else 503."""
    return _json(OipReady(ready=plane.ready), 200 if plane.ready else 503)


def show_model(plane: Dataplane, call: Call) -> Reply:
    """The model's tensors.

    Raises:
        ModelNotFoundError: no such model.
        UnavailableError: it is being loaded.
    """
    told = describe_model(plane.pool, model_of(call))
    model = OipModel(
        name=told.name,
        versions=list(told.versions),
        platform=told.platform,
        inputs=_tensors(told.inputs),
        outputs=_tensors(told.outputs),
        parameters=dict(told.parameters),
    )
    return _json(model)


def show_config(plane: Dataplane, call: Call) -> Reply:
    """The same in Triton's words; raises as `show_model`."""
    told = describe_model(plane.pool, model_of(call))
    return _json(
        OipConfig(
            name=told.name,
            platform=told.platform,
            backend=told.platform,
            input=_config_tensors(told.inputs),
            output=_config_tensors(told.outputs),
        )
    )


def _config_tensors(told: Sequence[Described]) -> list[OipConfigTensor]:
    return [
        OipConfigTensor(name=t.name, data_type=CONFIG_TYPES[t.datatype], dims=list(t.shape))
        for t in told
    ]


def _tensors(told: Sequence[Described]) -> list[OipTensor]:
    return [OipTensor(name=t.name, datatype=t.datatype, shape=list(t.shape)) for t in told]


def show_model_ready(plane: Dataplane, call: Call) -> Reply:
    """200 while the model answers.

    Raises:
        ModelNotFoundError: no such model.
        UnavailableError: it is being loaded.
        UnhealthyError: requests should not be sent here.
    """
    served = plane.pool.route(model_of(call), None)
    require_ready(plane)
    return _json(OipModelReady(name=served.ref.name, ready=True))


def _json(message: Any, status: int = 200) -> Reply:
    return Reply(_encoder.encode(message), status)
