"""The protocol's bodies. Fields that are not named are ignored."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class OipInput(msgspec.Struct, kw_only=True):
    """A tensor of texts. `data` is flat or nested; absent where the values follow as bytes."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | UnsetType = UNSET
    parameters: dict[str, Any] = {}


class OipRequestedOutput(msgspec.Struct, kw_only=True):
    """A tensor that is wanted; with the parameter `binary_data` as bytes."""

    name: str
    parameters: dict[str, Any] = {}


class OipRequest(msgspec.Struct, kw_only=True):
    """Tensors and the options of the task; the parameter `task` chooses among several."""

    inputs: list[OipInput]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[OipRequestedOutput] | None = None


class OipOutput(msgspec.Struct, kw_only=True):
    """A tensor, its values flat; absent where they follow as bytes."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | UnsetType = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET


class OipResponse(msgspec.Struct, kw_only=True):
    """Who answered, and the tensors."""

    model_name: str
    model_version: str
    id: str
    outputs: list[OipOutput]


class OipTensor(msgspec.Struct, kw_only=True):
    """A tensor's name, kind and shape; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class OipModel(msgspec.Struct, kw_only=True):
    """A model, with the tensors of the task it is for; `parameters` name all it can do."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[OipTensor]
    outputs: list[OipTensor]
    parameters: dict[str, str]


class OipConfigTensor(msgspec.Struct, kw_only=True):
    """A tensor in Triton's words: `TYPE_STRING`, `TYPE_FP32`, …; -1 is any size."""

    name: str
    data_type: str
    dims: list[int]


class OipConfig(msgspec.Struct, kw_only=True):
    """A model as Triton's tools want to know it; `max_batch_size` 0: shapes are told whole."""

    name: str
    platform: str
    backend: str
    max_batch_size: int = 0
    input: list[OipConfigTensor]
    output: list[OipConfigTensor]


class OipServer(msgspec.Struct, kw_only=True):
    """Who this is, and the extensions it knows."""

    name: str
    version: str
    extensions: list[str]


class OipLive(msgspec.Struct, kw_only=True):
    """Whether the process is alive."""

    live: bool


class OipReady(msgspec.Struct, kw_only=True):
    """Whether requests should be sent here."""

    ready: bool


class OipModelReady(msgspec.Struct, kw_only=True):
    """Whether this model answers."""

    name: str
    ready: bool
