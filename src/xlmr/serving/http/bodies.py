"""Request bodies: declared as JSON, decoded strictly, refused with the path that is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from xlmr.errors import InputError, XlmrError
from xlmr.serving.http.problems import BadJsonError, MediaTypeError
from xlmr.serving.http.request import Request

T = TypeVar("T")

_JSON = b"application/json"
_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# msgspec puts the place last: "Expected `str`, got `int` - at `$.input[3]`".
_PLACE = re.compile(r" - at `([^`]*)`$")


def require_json(request: Request) -> None:
    """Refuses bodies that are not declared as JSON, which also keeps simple browser forms out.

    Raises:
        MediaTypeError: the content type is another, or missing.
    """
    declared = request.header(b"content-type")
    if declared == _JSON or declared.split(b";", 1)[0].strip().lower() == _JSON:
        return
    raise MediaTypeError(
        "expected content-type: application/json",
        hint="add -H 'content-type: application/json'",
    )


class Decoder(Generic[T]):
    """Decodes one kind of body; its errors read `$.input[3]: expected str, got int`."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._decoder = msgspec.json.Decoder(kind)

    def __call__(self, body: bytes) -> T:
        """The body as a value.

        Raises:
            BadJsonError: not JSON.
            InputError: JSON of another shape; its path says where.
        """
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as fault:
            raise _shape_error(fault) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            if _LONE_SURROGATE.search(body):
                return self._with_lone_surrogates(body)
            raise _json_error(fault) from None

    def _with_lone_surrogates(self, body: bytes) -> T:
        """Half an emoji in one text must not cost its neighbours their answers.

        The standard library lets lone surrogates through; the text that holds one is then refused
        by itself.
        """
        try:
            return msgspec.convert(json.loads(body), self._kind)
        except msgspec.ValidationError as fault:
            raise _shape_error(fault) from None
        except (ValueError, RecursionError) as fault:
            raise _json_error(fault) from None


def one_or_many(given: str | list[Any], path: str = "$.input") -> tuple[Sequence[Any], bool]:
    """The texts, or lists of token ids, and whether they were a list; flat numbers are one text.

    Raises:
        InputError: a list of mixed kinds.
    """
    if isinstance(given, str):
        return [given], False
    if not given:
        return [], True
    kind = type(given[0])
    for index, item in enumerate(given):
        if type(item) is not kind:
            raise InputError(
                f"expected {_NAMES[kind]}, got {_NAMES[type(item)]}", path=f"{path}[{index}]"
            )
    return ([given], False) if kind is int else (given, True)


_NAMES = {str: "str", int: "int", list: "array"}


def _shape_error(fault: msgspec.ValidationError) -> InputError:
    text = str(fault)
    place = _PLACE.search(text)
    message = _PLACE.sub("", text).replace("`", "")
    if message.startswith("Invalid enum value"):
        message = "not one of the allowed values"
    return InputError(message[:1].lower() + message[1:], path=place[1] if place else "$")


def _json_error(fault: Exception) -> XlmrError:
    """Names the byte, never the bytes around it."""
    if isinstance(fault, UnicodeDecodeError):
        return BadJsonError("the body is not UTF-8")
    if isinstance(fault, RecursionError):
        return BadJsonError("the body is nested too deeply")
    if isinstance(fault, json.JSONDecodeError):
        return BadJsonError(f"the body is not JSON: {fault.msg.lower()} (byte {fault.pos})")
    if isinstance(fault, msgspec.DecodeError):
        return BadJsonError(
            f"the body is not JSON: {str(fault).removeprefix('JSON is malformed: ')}"
        )
    return BadJsonError("the body is not JSON")
