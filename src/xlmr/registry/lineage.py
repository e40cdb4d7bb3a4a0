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
    recipe = [str(lineage[key]) for key in ("method",) if _plain(lineage.get(key))]
    recipe += [f"seed {lineage['seed']}"] if _plain(lineage.get("seed")) else []
    if isinstance(lineage.get("options"), Mapping):
        recipe.append(f"options {_digest(lineage['options'])}")
    if recipe:
        yield "recipe", ", ".join(recipe)
    versions = lineage.get("versions")
    code = [str(lineage["code"])] if _plain(lineage.get("code")) else []
    if isinstance(versions, Mapping):
        code += [f"{name} {version}" for name, version in versions.items()]
    if code:
        yield "code", ", ".join(code)
    yield from (("parent", parent) for parent in _parents(lineage))
    for split, file in _files(lineage):
        yield "data", f"{split} {file.get('file')}, {file.get('rows')} rows, {file.get('sha256')}"
    for name, said in lineage.items():
        if name not in _KNOWN and _plain(said):
            yield name, str(said)


def parent_digests(lineage: Mapping[str, Any]) -> set[str]:
    """Digests of the models it was made of, by which the registry knows those it has."""
    return {str(parent.get("digest")) for parent in _models(lineage)}


def evidence_on(version: int, entries: Iterable[Entry]) -> list[Entry]:
    """The lines of a name's journal that took a version forward on evidence, or without."""
    return [e for e in entries if e.version == version and (e.evidence or e.override)]


def _parents(lineage: Mapping[str, Any]) -> list[str]:
    return [f"{model.get('name')} {model.get('digest')}" for model in _models(lineage)]


def _models(lineage: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    smaller = lineage.get("compressed")
    told = [lineage.get("encoder")]
    told += [step.get("parent") for step in _mappings(smaller)]
    return _mappings(told)


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
