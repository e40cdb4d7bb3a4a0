"""`POST …/infer`: tensors in, tensors out, in JSON or behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from xlmr.errors import InputError
from xlmr.serving.dataplane import Answered, Question
from xlmr.serving.http.bodies import Decoder
from xlmr.serving.http.endpoint import Call
from xlmr.serving.http.oip.messages import OipOutput, OipRequest, OipResponse
from xlmr.serving.http.problems import MediaTypeError, Reply
from xlmr.serving.http.request import Request
from xlmr.serving.tensors import (
    BYTES,
    Tensor,
    answer_tensors,
    ask_tensors,
    raw_bytes,
    unpack_texts,
)

_HEADER_LENGTH = b"inference-header-content-length"
_MEDIA_TYPES = (b"", b"application/json", b"application/octet-stream")

_decode = Decoder(OipRequest)
_encoder = msgspec.json.Encoder()


def accept(request: Request) -> None:
    """Takes JSON, and JSON with bytes behind it, which Triton's client declares as nothing at all.

    Raises:
        MediaTypeError: another content type, or a compressed body.
    """
    media_type = request.header(b"content-type").split(b";", 1)[0].strip().lower()
    if media_type not in _MEDIA_TYPES:
        raise MediaTypeError("expected content-type: application/json or application/octet-stream")
    if request.header(b"content-encoding") not in (b"", b"identity"):
        raise MediaTypeError("compressed bodies are not read", hint="send the body as it is")


def ask_infer(call: Call) -> tuple[Question, Callable[[Answered], Reply]]:
    """The body as a question.

    Raises:
        BadJsonError: not JSON.
        InputError: JSON of another shape, or tensors that the task does not take.
        ModelNotFoundError: no such model.
    """
    given = dict(call.headers).get(_HEADER_LENGTH)
    length = len(call.body) if given is None else _length(given, len(call.body))
    request = _decode(call.body[:length])
    raw = memoryview(call.body)[length:]
    assert call.plane is not None
    question = ask_tensors(
        call.plane.pool,
        id=call.id,
        model=model_of(call),
        inputs=_inputs(request, raw),
        parameters=request.parameters,
        deadline_of=lambda seconds: time.monotonic() + seconds,
    )
    return question, lambda answered: _render(request, question.task, answered)


def _length(given: bytes, size: int) -> int:
    if not given.isdigit() or len(given) > 12 or int(given) > size:
        raise InputError(
            f"expected a length within the body's {size} bytes", path=_HEADER_LENGTH.decode()
        )
    return int(given)


def model_of(call: Call) -> str:
    """`name` or `name@version`, as the path says."""
    name, version = call.path_params["model"], call.path_params.get("version")
    return name if version is None else f"{name}@{version}"


def _inputs(request: OipRequest, raw: memoryview) -> list[Tensor]:
    """The inputs with their values, be they in the JSON or behind it.

    Raises:
        InputError: no values, values twice, or bytes that nobody asked for.
    """
    tensors, at = [], 0
    for place, given in enumerate(request.inputs):
        path = f"$.inputs[{place}]"
        size = given.parameters.get("binary_data_size")
        values: Any
        if size is None:
            if given.data is UNSET:
                raise InputError("no data, and no binary_data_size", path=path)
            path = f"{path}.data"
            values = _flat(given.data, path) if given.datatype == BYTES else given.data
        else:
            if not isinstance(size, int) or size < 0 or at + size > len(raw):
                raise InputError("binary_data_size exceeds the bytes behind the JSON", path=path)
            values = unpack_texts(raw[at : at + size], path) if given.datatype == BYTES else []
            at += size
        tensors.append(Tensor(given.name, given.datatype, tuple(given.shape), values, path))
    if at < len(raw):
        raise InputError(
            f"{len(raw) - at} bytes too many behind the JSON",
            path="$.inputs",
            hint="each input's binary_data_size says how many are its own",
        )
    return tensors


def _flat(data: Any, path: str) -> list[str]:
    """Nested lists of texts as one list.

    Raises:
        InputError: something that is no text; names its place.
    """
    texts: list[str] = []
    for place, value in enumerate(data):
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list):
            texts += _flat(value, f"{path}[{place}]")
        else:
            raise InputError(f"expected str, got {type(value).__name__}", path=f"{path}[{place}]")
    return texts


def _render(request: OipRequest, task: str, answered: Answered) -> Reply:
    wanted = request.outputs
    tensors = answer_tensors(task, answered, [one.name for one in wanted] if wanted else None)
    always = request.parameters.get("binary_data_output") is True
    as_bytes = [bool(one.parameters.get("binary_data", always)) for one in wanted or ()] or [
        always
    ] * len(tensors)
    outputs, raw = _outputs(tensors, as_bytes)
    response = OipResponse(
        model_name=answered.model.name,
        model_version=answered.model.version,
        id=request.id or answered.id,
        outputs=outputs,
    )
    body = _encoder.encode(response)
    if not raw:
        return Reply(body)
    reply = Reply(b"".join((body, *raw)), media_type="application/octet-stream")
    return reply.with_header(_HEADER_LENGTH, b"%d" % len(body))


def _outputs(
    tensors: Sequence[Tensor], as_bytes: Sequence[bool]
) -> tuple[list[OipOutput], list[bytes]]:
    outputs, raw = [], []
    for tensor, binary in zip(tensors, as_bytes, strict=True):
        output = OipOutput(name=tensor.name, shape=list(tensor.shape), datatype=tensor.datatype)
        if binary:
            raw.append(raw_bytes(tensor))
            output.parameters = {"binary_data_size": len(raw[-1])}
        else:
            values = tensor.values
            output.data = list(values) if tensor.datatype == BYTES else values.tolist()
        outputs.append(output)
    return outputs, raw
