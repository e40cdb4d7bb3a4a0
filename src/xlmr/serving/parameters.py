"""Options out of loose parameters: names and values, as protocols without a field for each carry.

Names are those of the options in `xlmr.model.prepared`; a name that the task does not know is
refused, since a parameter that is silently ignored is a wrong answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import msgspec

from xlmr.errors import InputError, TaskError
from xlmr.model.prepared import (
    AnswerOptions,
    ClassifyOptions,
    EmbedOptions,
    FillOptions,
    Options,
    RerankOptions,
    TagOptions,
    ZeroShotOptions,
)

_OPTIONS: Mapping[str, type[Any]] = {
    "classify": ClassifyOptions,
    "tag": TagOptions,
    "answer": AnswerOptions,
    "embed": EmbedOptions,
    "rerank": RerankOptions,
    "zero_shot": ZeroShotOptions,
    "fill": FillOptions,
}
# What a batch of one text could hold alone: its shape depends on each text.
_UNFIT = frozenset({"each_token"})
_PLACE = re.compile(r" - at `([^`]*)`$")


def options_of(task: str, parameters: Mapping[str, Any], *, path: str = "$.parameters") -> Options:
    """The options of a task.

    Args:
        task: its name.
        parameters: options by name; those that are not given keep their defaults.
        path: where the parameters stand, for errors.

    Raises:
        TaskError: no such task.
        InputError: a name that the task does not know, a value of another kind, or one missing.
    """
    kind = _OPTIONS.get(task)
    if kind is None:
        raise TaskError("no such task", hint=f"there are: {', '.join(_OPTIONS)}")
    known = {field.name for field in fields(kind)} - _UNFIT
    for name in parameters:
        if name not in known:
            raise InputError(
                f"{task} has no parameter of a name given here",
                path=path,
                hint=f"it has: {', '.join(sorted(known))}",
            )
    try:
        options: Options = msgspec.convert(parameters, kind)
    except msgspec.ValidationError as fault:
        raise _fault(fault, path) from None
    return options


def _fault(fault: msgspec.ValidationError, path: str) -> InputError:
    text = str(fault)
    place = _PLACE.search(text)
    message = _PLACE.sub("", text).replace("`", "")
    if message.startswith("Invalid enum value"):
        message = "not one of the allowed values"
    inner = place[1].removeprefix("$") if place else ""
    return InputError(message[:1].lower() + message[1:], path=path + inner)
