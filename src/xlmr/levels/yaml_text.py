"""Plain values as YAML for people to read. Pure; written only, never read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

Value = str | bool | int | float | Sequence["Value"] | Mapping[str, "Value"]

# What YAML takes for a string without quotes, whichever of its versions reads it.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_NO_STRINGS = frozenset(("true", "false", "yes", "no", "on", "off", "null", "y", "n"))


def yaml_text(value: Mapping[str, Value], *, heading: str = "") -> str:
    """A document; `heading` stands above it as a comment."""
    comment = "".join(f"# {line}\n" for line in heading.splitlines())
    return comment + "\n".join(_lines(value)) + "\n"


def _lines(value: Value) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _under(f"{_scalar(key)}:", inner)
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        for inner in value:
            first, *rest = _lines(inner)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    else:
        yield _scalar(value)


def _under(key: str, value: Value) -> Iterator[str]:
    """A key and its value: on the same line where it is short, below and indented else."""
    if isinstance(value, str) and ("\n" in value or '"' in value):
        yield f"{key} |-"
        yield from (f"  {line}" for line in value.split("\n"))
    elif isinstance(value, str | bool | int | float) or not value:
        yield f"{key} {_scalar(value)}"
    else:
        yield key
        yield from (f"  {line}" for line in _lines(value))


def _scalar(value: Value) -> str:
    """On one line. A JSON string is a YAML string too."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NO_STRINGS:
        return value
    return json.dumps(value, ensure_ascii=False)
