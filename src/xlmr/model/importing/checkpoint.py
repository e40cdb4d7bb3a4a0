"""A checkpoint from a directory or a hub becomes a model directory: the import, on one page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import ModelError, ModelNotFoundError, WeightsError
from xlmr.model.bundle import open_bundle
from xlmr.model.config import parse_config
from xlmr.model.importing.companions import (
    has_safetensors,
    hub_files,
    note_left_behind,
    note_skipped_file,
    write_companions,
    write_tokenizer,
)
from xlmr.model.importing.convert import convert_arrays, convert_config
from xlmr.model.importing.hub import fetch_snapshot
from xlmr.model.importing.progress import Progress, silent
from xlmr.model.importing.report import ImportReport, Notes, WrittenFile, list_files
from xlmr.model.importing.staging import build_directory, check_target
from xlmr.model.importing.torch_pickle import TorchFile
from xlmr.model.importing.writing import CHUNK_BYTES, StoredArray, write_safetensors
from xlmr.model.jsonfiles import read_object
from xlmr.model.weights import SafetensorsFile, Weights, weight_files

_WEIGHTS = "model.safetensors"
# `name` or `owner/name`; anything else can only be a path.
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def import_checkpoint(
    source: str,
    out: Path,
    *,
    cache_dir: Path,
    revision: str | None = None,
    force: bool = False,
    progress: Progress = silent,
    endpoint: str | None = None,
) -> ImportReport:
    """Builds a model directory from a local directory or a hub's model.

    Args:
        source: a directory, or a hub id: `FacebookAI/xlm-roberta-base`.
        out: the directory to write; appears whole or not at all.
        cache_dir: downloads are kept in `cache_dir / "hub"`.
        revision: branch, tag or commit on the hub; its default branch where None.
        force: replace a model that is already in `out`.
        progress: hears of every step.
        endpoint: the hub's address; huggingface_hub's own choice where None.

    Raises:
        ModelNotFoundError: no such directory, model or revision.
        ModelRefusedError: not XLM-R shaped; names the field.
        WeightsError: weights are missing, damaged, or in a pickle that is more than arrays.
        DigestMismatchError: a download is not what the hub promises.
        UnavailableError: the hub cannot be reached.
        MissingExtraError: a hub id, and huggingface_hub is not installed.
        ModelError: `out` holds something, or cannot be written.
    """
    check_target(out, force=force)
    notes = Notes.empty()
    directory = Path(source).expanduser()
    commit: str | None = None
    downloaded: tuple[WrittenFile, ...] = ()
    if directory.is_dir():
        _refuse_overlap(directory, out)
    elif Path(source).exists() or not _HUB_ID.fullmatch(source):
        raise ModelNotFoundError(f"{source}: no such directory")
    else:
        snapshot = fetch_snapshot(
            source,
            revision=revision,
            cache_dir=cache_dir / "hub",
            choose=hub_files,
            progress=progress,
            endpoint=endpoint,
        )
        directory, commit, downloaded = snapshot.directory, snapshot.commit, snapshot.files
        for name in snapshot.left:
            note_skipped_file(name, notes)
    written: list[WrittenFile] = []

    def write(staged: Path) -> None:
        written.extend(_convert(directory, staged, source, notes, progress))

    build_directory(out, write, force=force)
    return ImportReport(
        source=source,
        revision=commit,
        out=out,
        files=tuple(written),
        downloaded=downloaded,
        converted=tuple(notes.converted),
        skipped=tuple(notes.skipped),
        warnings=tuple(notes.warnings),
    )


def _convert(
    source: Path, out: Path, origin: str, notes: Notes, progress: Progress
) -> list[WrittenFile]:
    """Everything that can be refused is refused before the large file is written."""
    raw = read_object(source / "config.json")
    config = convert_config(raw, notes)
    encoder = parse_config(config)
    write_tokenizer(source, out, encoder.vocabulary, encoder.max_tokens, notes)
    arrays = convert_arrays(_stored_arrays(source), raw, config, notes)
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (out / "config.json").write_text(text, encoding="utf-8")
    write_companions(source, out, origin, notes)
    open_bundle(out)
    if not has_safetensors(source):
        notes.convert("pytorch_model.bin: model.safetensors")
    digest = write_safetensors(out / _WEIGHTS, arrays, progress=progress)
    Weights(out, encoder)
    note_left_behind(source, out, notes)
    return list_files(out, known={_WEIGHTS: digest})


def _stored_arrays(source: Path) -> list[StoredArray]:
    if has_safetensors(source):
        files = [SafetensorsFile(path) for path in weight_files(source)]
        return [_stored(file, name) for file in files for name in file]
    return [array for path in _torch_files(source) for array in TorchFile(path).arrays()]


def _torch_files(source: Path) -> list[Path]:
    single, index = source / "pytorch_model.bin", source / "pytorch_model.bin.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise WeightsError(f"{source}: neither {_WEIGHTS} nor pytorch_model.bin")
    shards = read_object(index).get("weight_map")
    names = sorted({str(name) for name in shards.values()}) if isinstance(shards, dict) else []
    for name in names:
        if not re.fullmatch(r"[\w.-]+\.bin", name) or not (source / name).is_file():
            raise WeightsError(f"{source}: shard {name!r} is missing")
    return [source / name for name in names]


def _stored(file: SafetensorsFile, name: str) -> StoredArray:
    dtype, raw = file.raw(name)

    def chunks() -> Iterator[NDArray[Any]]:
        for start in range(0, len(raw), CHUNK_BYTES):
            # Copied: the bytes need not lie where numbers of their width may.
            yield np.array(raw[start : start + CHUNK_BYTES])

    return StoredArray(name, dtype, file.shape(name), chunks)


def _refuse_overlap(source: Path, out: Path) -> None:
    inner, outer = source.resolve(), out.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise ModelError(f"{out} and {source} overlap", hint="choose another --out")
