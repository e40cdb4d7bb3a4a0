"""A trained model comes to rest: a new directory, whole or not at all, that knows its origin."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from xlmr import __version__
from xlmr.errors import ModelError
from xlmr.evaluation.golden import GOLDEN_FILE
from xlmr.model.calibration import CALIBRATION_FILE
from xlmr.model.importing import staging
from xlmr.registry.manifest import MANIFEST_FILE

XLMR_JSON = "xlmr.json"
HEAD_FILE = "xlmr_head.safetensors"
CARD = "README.md"

# What a model of another task still shares with its encoder.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "sentencepiece.bpe.model",
    "LICENSE",
    "LICENSE-NOTICE",
    "NOTICE",
)
_KEPT_SUFFIXES = (".json", ".safetensors", ".model", ".txt", ".md")
# What a model says of itself is not true of another that is made of it.
_OURS = (XLMR_JSON, HEAD_FILE, CALIBRATION_FILE, GOLDEN_FILE, CARD, MANIFEST_FILE)


def check_target(directory: Path, *, encoder: Path, force: bool) -> None:
    """Refuses a target before any work is done for it.

    Raises:
        ModelError: it exists and `force` is not set; or it is set and what stands there is not a
            model, or holds the encoder itself.
    """
    target, source = directory.resolve(), encoder.resolve()
    if target == source or target in source.parents:
        raise ModelError(f"{directory}: the encoder lies there", hint="choose another --out")
    staging.check_target(directory, force=force)


def write_model(
    directory: Path, write: Callable[[Path], None], *, encoder: Path, force: bool
) -> None:
    """Calls `write` with an empty directory, which takes the target's place if that ends well.

    Raises:
        ModelError: see `check_target`; or the disk is full or not writable.
    """
    check_target(directory, encoder=encoder, force=force)
    staging.build_directory(directory, write, force=force)


def link_files(source: Path, target: Path, *, names: Sequence[str] = ()) -> None:
    """Hard-links a model directory's files into another, or copies them where links cannot be.

    Args:
        source: the directory to take from.
        target: the directory to add to.
        names: take these where they exist. Where empty: configuration, tokenizer, weights,
            and licences, at the top and one folder down, but nothing that says what the model is
            worth: `xlmr.json`, heads, calibration, golden inputs, its card; nor other formats of
            the weights.
    """
    for path in sorted([*source.glob("*"), *source.glob("*/*")]):
        name = str(path.relative_to(source))
        kept = path.suffix in _KEPT_SUFFIXES or name in TOKENIZER_FILES
        if not path.is_file() or (name not in names if names else not kept or name in _OURS):
            continue
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path.resolve(), place)
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, place)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes readable JSON, the same bytes for the same value."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def lineage(
    *,
    method: str,
    seed: int,
    encoder: Path,
    encoder_digest: str,
    data: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
    packages: Sequence[str],
) -> dict[str, Any]:
    """Where a model comes from. Without a clock in it: the same run writes the same bytes."""
    versions = {"xlmr": __version__, "python": platform.python_version()}
    return {
        "method": method,
        "seed": seed,
        "encoder": {"name": encoder.resolve().name, "digest": encoder_digest},
        "data": list(data),
        "options": dict(options),
        "code": code_digest(),
        "versions": versions | {package: _version(package) for package in packages},
    }


@cache
def code_digest() -> str:
    """SHA-256, hex, over the names and content of this package's own Python files.

    It tells an edited checkout from the release whose version it still bears.
    """
    package, seen = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        seen.update(f"{content} {path.relative_to(package).as_posix()}\n".encode())
    return seen.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
