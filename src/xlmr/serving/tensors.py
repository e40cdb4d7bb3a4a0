"""The Open Inference Protocol without its transports: named tensors become a question, and answers
become named tensors. REST and gRPC only differ in how they write them.

Inputs by task, each BYTES:

    classify            text [B], [B, 1], or [B, 2] for pairs
    embed · tag · fill  text [B] or [B, 1]
    zero_shot           text [B], labels [N]
    answer              question [B], context [B]
    rerank              query [1], text [B]

A task with one input takes it under any name. Options come as parameters, and the parameter `task`
chooses where a model can do several things.

Every answer has, beside its own tensors, `tokens` INT32 [B], `truncated` BOOL [B] and `language`
BYTES [B]: text that was not read is never passed over in silence.

Shapes: B items, D vector width, K labels shown, N candidate labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from xlmr.errors import InputError
from xlmr.serving.dataplane import Answered, Outcome, Question
from xlmr.serving.defaults import main_task
from xlmr.serving.parameters import options_of
from xlmr.serving.pool import Pool

BYTES, FP32, INT32, BOOL = "BYTES", "FP32", "INT32", "BOOL"

_INPUTS: Mapping[str, tuple[str, ...]] = {
    "classify": ("text",),
    "embed": ("text",),
    "tag": ("text",),
    "fill": ("text",),
    "zero_shot": ("text", "labels"),
    "answer": ("question", "context"),
    "rerank": ("query", "text"),
}
_OWN_OUTPUTS: Mapping[str, tuple[tuple[str, str, int], ...]] = {
    "classify": (("labels", BYTES, 2), ("scores", FP32, 2)),
    "zero_shot": (("labels", BYTES, 2), ("scores", FP32, 2)),
    "embed": (("embedding", FP32, 2),),
    "tag": (("entities", BYTES, 1),),
    "fill": (("candidates", BYTES, 1),),
    "answer": (
        ("answer", BYTES, 1),
        ("start", INT32, 1),
        ("end", INT32, 1),
        ("score", FP32, 1),
        ("no_answer_score", FP32, 1),
    ),
    "rerank": (("score", FP32, 1),),
}
_COMMON_OUTPUTS = (("tokens", INT32, 1), ("truncated", BOOL, 1), ("language", BYTES, 1))
# Of the protocol's extensions, those that are understood.
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository")
# What Triton's configurations call the kinds of tensors.
CONFIG_TYPES = {t: f"TYPE_{'STRING' if t == BYTES else t}" for t in (BYTES, FP32, INT32, BOOL)}
# What Triton's clients say of themselves in every request; none of it changes an answer.
_CLIENTS_OWN = frozenset({"binary_data_output", "sequence_start", "sequence_end", "priority"})

_json = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Tensor:
    """Values in row-major order: texts for BYTES, an array for anything else.

    Attributes:
        path: where the values stand in the caller's body, for errors.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Any
    path: str = "$"


@dataclass(frozen=True, slots=True)
class Described:
    """A tensor as metadata tells it; -1 is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedModel:
    """A model as metadata tells it; `parameters` name all it can do, and its digest."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[Described, ...]
    outputs: tuple[Described, ...]
    parameters: Mapping[str, str]


def ask_tensors(
    pool: Pool,
    *,
    id: str,
    model: str,
    inputs: Sequence[Tensor],
    parameters: Mapping[str, Any],
    deadline_of: Callable[[float], float],
) -> Question:
    """Tensors as a question.

    Args:
        pool: knows what the model is for.
        id: the request's.
        model: `name` or `name@version`.
        inputs: as the caller gave them.
        parameters: options of the task, `task` itself, and what clients say of themselves.
        deadline_of: the moment so many seconds from now; for Triton's `timeout` in microseconds.

    Raises:
        ModelNotFoundError: no such model.
        UnavailableError: it is being loaded.
        TaskError: no such task.
        InputError: tensors or parameters that the task does not take.
    """
    tasks = pool.route(model, None).tasks
    said = dict(parameters)
    task = said.pop("task", None) or main_task(tasks)
    timeout = said.pop("timeout", None)
    for name in _CLIENTS_OWN:
        said.pop(name, None)
    if task not in _INPUTS:
        raise InputError(
            "no such task", path="$.parameters.task", hint=f"there are: {', '.join(_INPUTS)}"
        )
    given = _by_name(task, inputs)
    items, locate = _items(task, given, said)
    return Question(
        id=id,
        task=task,
        items=items,
        options=options_of(task, said),
        model=model,
        path="$.inputs",
        partial=False,
        locate=locate,
        deadline=None if timeout is None else deadline_of(_seconds(timeout)),
    )


def _seconds(timeout: Any) -> float:
    if not isinstance(timeout, int) or isinstance(timeout, bool) or timeout <= 0:
        raise InputError("expected microseconds, a whole number", path="$.parameters.timeout")
    return timeout / 1e6


def _by_name(task: str, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    """The inputs that a task takes; the only one of a task that takes one has any name."""
    expected = _INPUTS[task]
    for tensor in inputs:
        if tensor.datatype != BYTES:
            raise InputError(
                f"expected datatype BYTES, got {tensor.datatype[:16]}", path=tensor.path
            )
        if math.prod(tensor.shape) != len(tensor.values):
            raise InputError(
                f"{len(tensor.values)} values do not fill shape {list(tensor.shape)}",
                path=tensor.path,
            )
    if len(expected) == len(inputs) == 1:
        return {expected[0]: inputs[0]}
    given = {tensor.name: tensor for tensor in inputs}
    if len(given) < len(inputs) or not set(given) <= set(expected):
        raise InputError(f"{task} takes the inputs {', '.join(expected)}", path="$.inputs")
    return given


def _items(
    task: str, given: Mapping[str, Tensor], said: dict[str, Any]
) -> tuple[Sequence[Any], Callable[[int, str], str]]:
    """The items, and where each stands; a query and labels move to the parameters."""
    if task == "answer":
        return _pairs_of(_needed(task, given, "question"), _needed(task, given, "context"))
    text = _needed(task, given, "text")
    if task == "rerank" and "query" in given:
        said["query"] = _single(given["query"])
    if task == "zero_shot" and "labels" in given:
        said["labels"] = list(given["labels"].values)
    if task == "classify" and len(text.shape) == 2 and text.shape[1] == 2:
        values = text.values
        pairs = [(values[i], values[i + 1]) for i in range(0, len(values), 2)]
        return pairs, lambda place, part: f"{text.path}[{2 * place + (part == '[1]')}]"
    _check_column(text)
    return text.values, lambda place, part: f"{text.path}[{place}]{part}"


def _pairs_of(first: Tensor, second: Tensor) -> tuple[Sequence[Any], Callable[[int, str], str]]:
    _check_column(first)
    _check_column(second)
    if len(first.values) != len(second.values):
        raise InputError(
            f"{len(second.values)} values for {len(first.values)} of {first.name}",
            path=second.path,
        )

    def locate(place: int, part: str) -> str:
        return f"{(second if part == '[1]' else first).path}[{place}]"

    return list(zip(first.values, second.values, strict=True)), locate


def _needed(task: str, given: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in given:
        raise InputError(f"{task} needs the input {name}", path="$.inputs")
    return given[name]


def _check_column(tensor: Tensor) -> None:
    if len(tensor.shape) != 1 and not (len(tensor.shape) == 2 and tensor.shape[1] == 1):
        raise InputError(
            f"expected shape [B] or [B, 1], got {list(tensor.shape)}", path=tensor.path
        )


def _single(tensor: Tensor) -> Any:
    if len(tensor.values) != 1:
        raise InputError(f"expected one value, got {len(tensor.values)}", path=tensor.path)
    return tensor.values[0]


def answer_tensors(task: str, answered: Answered, wanted: Sequence[str] | None) -> list[Tensor]:
    """Answers as tensors, all or those whose names are wanted, in the order they are.

    Raises:
        InputError: a name that this answer has no tensor of.
    """
    outcomes = answered.outcomes
    tensors = [*_own(task, outcomes), *_common(outcomes)]
    if wanted is None:
        return tensors
    by_name = {tensor.name: tensor for tensor in tensors}
    for place, name in enumerate(wanted):
        if name not in by_name:
            raise InputError(
                "no output of that name",
                path=f"$.outputs[{place}].name",
                hint=f"there are: {', '.join(by_name)}",
            )
    return [by_name[name] for name in wanted]


def _own(task: str, outcomes: Sequence[Outcome]) -> list[Tensor]:
    """What the task has to say of every item."""
    answers = [outcome.answer for outcome in outcomes]
    if task == "embed":
        vectors_BD = np.stack([answer.vector for answer in answers]).astype(np.float32)
        return [Tensor("embedding", FP32, vectors_BD.shape, vectors_BD.ravel())]
    if task == "rerank":
        return [_column("score", FP32, [answer.score for answer in answers])]
    if task == "tag":
        return [_column("entities", BYTES, [_text(answer.entities) for answer in answers])]
    if task == "fill":
        return [_column("candidates", BYTES, [_text(answer.masks) for answer in answers])]
    if task == "answer":
        return [
            _column("answer", BYTES, [answer.text for answer in answers]),
            _column("start", INT32, [answer.start for answer in answers]),
            _column("end", INT32, [answer.end for answer in answers]),
            _column("score", FP32, [answer.score for answer in answers]),
            _column("no_answer_score", FP32, [answer.no_answer_score for answer in answers]),
        ]
    return _labels(answers)


def _labels(answers: Sequence[Any]) -> list[Tensor]:
    shape = (len(answers), len(answers[0].labels))
    scores = [label.score for answer in answers for label in answer.labels]
    tensors = [
        Tensor("labels", BYTES, shape, [lb.label for answer in answers for lb in answer.labels]),
        Tensor("scores", FP32, shape, np.asarray(scores, np.float32)),
    ]
    if answers[0].abstained is not None:
        tensors.append(_column("abstained", BOOL, [answer.abstained for answer in answers]))
    if answers[0].chosen is not None:
        tensors.append(_column("chosen", BYTES, [_text(answer.chosen) for answer in answers]))
    return tensors


def _common(outcomes: Sequence[Outcome]) -> list[Tensor]:
    accounts = [outcome.answer.accounting for outcome in outcomes]
    codes = [outcome.language.code if outcome.language else "und" for outcome in outcomes]
    return [
        _column("tokens", INT32, [account.tokens for account in accounts]),
        _column("truncated", BOOL, [account.truncated for account in accounts]),
        _column("language", BYTES, codes),
    ]


_NUMPY = {FP32: np.float32, INT32: np.int32, BOOL: np.bool_}


def _column(name: str, datatype: str, values: Sequence[Any]) -> Tensor:
    held = values if datatype == BYTES else np.asarray(values, _NUMPY[datatype])
    return Tensor(name, datatype, (len(values),), held)


def _text(value: Any) -> str:
    """What has no rectangular shape, as JSON."""
    return _json.encode(value).decode()


def describe_model(pool: Pool, name: str) -> DescribedModel:
    """A model as metadata tells it, with the tensors of the task it is for.

    Raises:
        ModelNotFoundError: no such model.
        UnavailableError: it is being loaded.
    """
    served = pool.route(name, None)
    task = main_task(served.tasks)
    ready = (state for state in pool.states() if state.state == "ready")
    return DescribedModel(
        name=served.ref.name,
        versions=tuple(state.version for state in ready if state.name == served.ref.name),
        platform="xlmr",
        inputs=tuple(Described(name, BYTES, (-1,)) for name in _INPUTS[task]),
        outputs=tuple(
            Described(name, datatype, (-1,) * rank)
            for name, datatype, rank in (*_OWN_OUTPUTS[task], *_COMMON_OUTPUTS)
        ),
        parameters={"tasks": ",".join(sorted(served.tasks)), "digest": served.ref.digest},
    )


def pack_texts(texts: Sequence[str]) -> bytes:
    """Texts as the protocol's raw bytes: each behind its length, four bytes, little endian."""
    parts: list[bytes] = []
    for text in texts:
        # An answer may quote half an emoji only where the caller wrote it, which was refused.
        encoded = text.encode()
        parts += (len(encoded).to_bytes(4, "little"), encoded)
    return b"".join(parts)


def unpack_texts(data: bytes | memoryview, path: str) -> list[str]:
    """The texts of raw bytes.

    Raises:
        InputError: lengths that do not fit, or bytes that are no UTF-8.
    """
    texts: list[str] = []
    at, size = 0, len(data)
    while at < size:
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if at + 4 > size or end > size:
            raise InputError(
                f"value {len(texts)} ends beyond the data",
                path=path,
                hint="each value stands behind its length, four bytes, little endian",
            )
        texts.append(as_text(data[at + 4 : end], f"{path}[{len(texts)}]"))
        at = end
    return texts


def as_text(data: bytes | memoryview, path: str) -> str:
    """UTF-8 as text.

    Raises:
        InputError: it is none.
    """
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        fault = InputError("not UTF-8", path=path)
    raise fault


def raw_bytes(tensor: Tensor) -> bytes:
    """A tensor's values as the protocol's raw bytes, little endian."""
    if tensor.datatype == BYTES:
        return pack_texts(tensor.values)
    array = np.asarray(tensor.values)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
