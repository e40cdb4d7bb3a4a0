"""`inference.GRPCInferenceService`: the Open Inference Protocol, which `xlmr.serving.tensors`
understands; here it is only read from messages and written into them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import xlmr
from xlmr.errors import InputError, ModelError, UnavailableError
from xlmr.serving import repository
from xlmr.serving.dataplane import Answered, Dataplane, Question
from xlmr.serving.grpc.calls import Acting, Asking, Showing
from xlmr.serving.grpc.messages import inference
from xlmr.serving.tensors import (
    BOOL,
    BYTES,
    CONFIG_TYPES,
    EXTENSIONS,
    FP32,
    INT32,
    Described,
    Tensor,
    answer_tensors,
    as_text,
    ask_tensors,
    describe_model,
    raw_bytes,
    unpack_texts,
)

_CONTENTS = {BOOL: "bool_contents", INT32: "int_contents", FP32: "fp32_contents"}


def ask_infer(
    plane: Dataplane, message: Any, id: str
) -> tuple[Question, Callable[[Answered], Any]]:
    """The message as a question.

    Raises:
        InputError: tensors or parameters that the task does not take.
        ModelNotFoundError: no such model.
    """
    question = ask_tensors(
        plane.pool,
        id=id,
        model=_name(message.model_name, message.model_version),
        inputs=_inputs(message),
        parameters=_parameters(message.parameters),
        deadline_of=lambda seconds: time.monotonic() + seconds,
    )

    def render(answered: Answered) -> Any:
        wanted = [output.name for output in message.outputs] or None
        tensors = answer_tensors(question.task, answered, wanted)
        return _response(message, answered, tensors)

    return question, render


def _name(name: str, version: str) -> str:
    return f"{name}@{version}" if version else name


def _inputs(message: Any) -> list[Tensor]:
    """The inputs with their values, be they in their contents or raw.

    Raises:
        InputError: raw values for some of the inputs only, or values that are no texts.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InputError(
            f"{len(raw)} raw_input_contents for {len(message.inputs)} inputs",
            path="$.raw_input_contents",
        )
    tensors = []
    for place, given in enumerate(message.inputs):
        values: Sequence[Any] = []
        path = f"$.inputs[{place}].contents.bytes_contents"
        if given.datatype == BYTES and raw:
            path = f"$.raw_input_contents[{place}]"
            values = unpack_texts(raw[place], path)
        elif given.datatype == BYTES:
            contents = given.contents.bytes_contents
            values = [as_text(data, f"{path}[{i}]") for i, data in enumerate(contents)]
        tensors.append(Tensor(given.name, given.datatype, tuple(given.shape), values, path))
    return tensors


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {}
    for name, value in given.items():
        choice = value.WhichOneof("parameter_choice")
        if choice is not None:
            parameters[name] = getattr(value, choice)
    return parameters


def _response(message: Any, answered: Answered, tensors: Sequence[Tensor]) -> Any:
    response = inference.ModelInferResponse(
        model_name=answered.model.name,
        model_version=answered.model.version,
        id=message.id or answered.id,
    )
    for tensor in tensors:
        output = response.outputs.add(
            name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
        )
        if message.raw_input_contents:
            response.raw_output_contents.append(raw_bytes(tensor))
        elif tensor.datatype == BYTES:
            output.contents.bytes_contents.extend(text.encode() for text in tensor.values)
        else:
            getattr(output.contents, _CONTENTS[tensor.datatype]).extend(tensor.values.tolist())
    return response


def show_server(plane: Dataplane, message: Any) -> Any:
    """Who this is."""
    return inference.ServerMetadataResponse(
        name="xlmr", version=xlmr.__version__, extensions=EXTENSIONS
    )


def show_live(plane: Dataplane, message: Any) -> Any:
    """Whether the compute threads move."""
    return inference.ServerLiveResponse(live=not plane.pool.vitals.dying())


def show_ready(plane: Dataplane, message: Any) -> Any:
    """Whether requests should be sent here."""
    return inference.ServerReadyResponse(ready=plane.ready)


def show_model_ready(plane: Dataplane, message: Any) -> Any:
    """Whether this model answers; one that is not there does not."""
    try:
        plane.pool.route(_name(message.name, message.version), None)
    except (ModelError, UnavailableError):
        return inference.ModelReadyResponse(ready=False)
    return inference.ModelReadyResponse(ready=plane.ready)


def show_model(plane: Dataplane, message: Any) -> Any:
    """The model's tensors.

    Raises:
        ModelNotFoundError: no such model.
        UnavailableError: it is being loaded.
    """
    told = describe_model(plane.pool, _name(message.name, message.version))
    return inference.ModelMetadataResponse(
        name=told.name,
        versions=told.versions,
        platform=told.platform,
        inputs=_described(told.inputs),
        outputs=_described(told.outputs),
        properties=told.parameters,
    )


def show_config(plane: Dataplane, message: Any) -> Any:
    """The model in Triton's words; raises as `show_model`."""
    told = describe_model(plane.pool, _name(message.name, message.version))
    config = inference.ModelConfig(
        name=told.name,
        platform=told.platform,
        backend=told.platform,
        input=_configured(told.inputs, inference.ModelInput),
        output=_configured(told.outputs, inference.ModelOutput),
    )
    return inference.ModelConfigResponse(config=config)


def _configured(tensors: Sequence[Described], kind: Any) -> list[Any]:
    return [kind(name=t.name, data_type=CONFIG_TYPES[t.datatype], dims=t.shape) for t in tensors]


def show_index(plane: Dataplane, message: Any) -> Any:
    """Every version with its state."""
    kind = inference.RepositoryIndexResponse.ModelIndex
    listed = [
        kind(name=one.name, version=one.version, state=state, reason=one.reason)
        for one, state in repository.index(plane, ready=message.ready)
    ]
    return inference.RepositoryIndexResponse(models=listed)


async def load(plane: Dataplane, message: Any, id: str) -> Any:
    """Answers once the model is ready; raises as `xlmr.serving.repository.load`."""
    await repository.load(plane, message.model_name, message.parameters)
    return inference.RepositoryModelLoadResponse()


async def unload(plane: Dataplane, message: Any, id: str) -> Any:
    """Raises as `xlmr.serving.repository.unload`."""
    repository.unload(plane, message.model_name)
    return inference.RepositoryModelUnloadResponse()


def _described(tensors: Sequence[Described]) -> list[Any]:
    kind = inference.ModelMetadataResponse.TensorMetadata
    return [kind(name=t.name, datatype=t.datatype, shape=t.shape) for t in tensors]


CALLS: Mapping[str, Asking | Showing | Acting] = {
    "ServerLive": Showing(show=show_live, role=None),
    "ServerReady": Showing(show=show_ready, role=None),
    "ServerMetadata": Showing(show=show_server, role=None),
    "ModelReady": Showing(show=show_model_ready),
    "ModelMetadata": Showing(show=show_model),
    "ModelInfer": Asking(task="infer", ask=ask_infer),
    "ModelConfig": Showing(show=show_config),
    "RepositoryIndex": Showing(show=show_index),
    "RepositoryModelLoad": Acting(act=load, role="operate"),
    "RepositoryModelUnload": Acting(act=unload, role="operate"),
}
