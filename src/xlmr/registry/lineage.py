"""Where a version comes from, in words: what its lineage and the journal say of it. Pure.

A lineage is what whoever made the model wrote into `xlmr.json`: it is read as far as it can be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from xlmr.registry.journal import Entry

_KNOWN = frozenset(
    ("method", "seed", "options", "versions", "code", "encoder", "compressed", "data")
)


def told_by(lineage: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a lineage says, thing by thing: recipe, code, parent, data and what else is plain."""
    method, seed = lineage.get("method"), lineage.get("seed")
    options, versions = lineage.get("options"), lineage.get("versions")
    recipe = [str(method)] if _plain(method) else []
    recipe += [f"seed {seed}"] if _plain(seed) else []
    recipe += [f"options {_digest(options)}"] if isinstance(options, Mapping) else []
    code = [str(lineage["code"])] if _plain(lineage.get("code")) else []
    if isinstance(versions, Mapping):
        code += [f"{name} {version}" for name, version in versions.items()]
    for name, said in (("recipe", recipe), ("code", code)):
        if said:
            yield name, ", ".join(said)
    for model in _models(lineage):
        yield "parent", f"{model.get('name')} {model.get('digest')}"
    for split, file in _files(lineage):
        yield "data", f"{split} {file.get('file')}, {file.get('rows')} rows, {file.get('sha256')}"
    for name, value in lineage.items():
        if name not in _KNOWN and _plain(value):
            yield name, str(value)


def parent_digests(lineage: Mapping[str, Any]) -> set[str]:
    """Digests of the models it was made of, by which the registry knows those it has."""
    return {str(parent.get("digest")) for parent in _models(lineage)}


def evidence_on(version: int, entries: Iterable[Entry]) -> list[Entry]:
    """The lines of a name's journal that took a version forward on evidence, or without."""
    return [e for e in entries if e.version == version and (e.evidence or e.override)]


def _models(lineage: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The encoder it was trained from, and the model that each compression began with."""
    steps = _mappings(lineage.get("compressed"))
    return _mappings([lineage.get("encoder"), *(step.get("parent") for step in steps)])


def _files(lineage: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for file in _mappings(lineage.get("data")):
        yield str(file.get("split", "")), file
    for step in _mappings(lineage.get("compressed")):
        for use in ("texts", "data"):
            yield from ((f"compressed by {use}", file) for file in _mappings(step.get(use)))


def _mappings(said: Any) -> list[Mapping[str, Any]]:
    return [each for each in said if isinstance(each, Mapping)] if isinstance(said, list) else []


def _plain(said: Any) -> bool:
    return isinstance(said, str | int | float)


def _digest(said: Any) -> str:
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
