"""Data sets that Hugging Face's `datasets` wrote with `save_to_disk`, where it is installed.

Such a folder holds Arrow files, or a folder of them for each split. A row's line is its number,
from 1. Classes come under their names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from xlmr.errors import DataError, MissingExtraError
from xlmr.evaluation.suites.record import Record
from xlmr.settings import keep_packages_quiet

_ROWS = 4096  # at a time: a few megabytes
_SPLITS, _STATE, _INFO = "dataset_dict.json", "state.json", "dataset_info.json"
# What others call a split of ours.
_ALSO = {"dev": ("validation", "valid")}


def is_saved(place: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return (place / _SPLITS).is_file() or (place / _STATE).is_file()


def saved_split(place: Path, split: str) -> Path | None:
    """The folder of a split: the place itself where it holds no splits; None where it has others.

    Raises:
        DataError: what names the splits cannot be read.
    """
    if not (place / _SPLITS).is_file():
        return place
    there = split_names(place)
    names = (split, *_ALSO.get(split, ()))
    return next((place / name for name in names if name in there), None)


def split_names(place: Path) -> tuple[str, ...]:
    """The splits that a folder holds.

    Raises:
        DataError: what names them cannot be read.
    """
    try:
        names = json.loads((place / _SPLITS).read_text(encoding="utf-8"))["splits"]
        return tuple(str(name) for name in names)
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{place / _SPLITS}: not the list of splits that it should be") from None


def saved_digest(folder: Path) -> str:
    """SHA-256 of a split: of its Arrow files, in order, and what says how they are to be read."""
    digest = hashlib.sha256()
    for path in [*sorted(folder.glob("*.arrow")), *folder.glob(_INFO)]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def saved_records(folder: Path) -> Iterator[Record]:
    """The rows of one split.

    Raises:
        DataError: the folder holds several splits, or is damaged.
        MissingExtraError: datasets is not installed.
    """
    if (folder / _SPLITS).is_file():
        raise DataError(
            f"{folder}: holds several splits",
            hint=f"name one: {', '.join(str(folder / name) for name in split_names(folder))}",
        )
    try:
        keep_packages_quiet()
        import datasets
        import pyarrow
    except ModuleNotFoundError as fault:
        raise MissingExtraError(fault.name or "datasets", extra="datasets") from None
    line = 0
    try:
        opened = datasets.load_from_disk(str(folder))
        named = {name: _namer(feature) for name, feature in opened.features.items()}
        # As Arrow: pictures and sounds in other columns are not decoded.
        for batch in opened.with_format("arrow").iter(batch_size=_ROWS):
            for values in batch.to_pylist():
                line += 1
                yield Record(folder, line, _with_names(values, named))
    # Their messages may quote what could not be decoded, so none of them is passed on.
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError):
        raise DataError(
            f"{folder}:{line + 1}: damaged, or written by another version of datasets"
        ) from None


def _namer(feature: Any) -> Callable[[Any], Any] | None:
    """What turns a class, or a list of classes, into names; None for every other feature."""
    names = getattr(feature, "names", None)
    if isinstance(names, list):
        # -1 is how test splits say that the label is not given.
        return lambda value: names[value] if value is not None and value >= 0 else None
    inner = getattr(feature, "feature", None)
    if inner is not None and not isinstance(inner, Mapping) and (name := _namer(inner)):
        return lambda values: None if values is None else [name(value) for value in values]
    return None


def _with_names(
    values: dict[str, Any], named: Mapping[str, Callable[[Any], Any] | None]
) -> dict[str, Any]:
    return {
        column: namer(value) if (namer := named.get(column)) else value
        for column, value in values.items()
    }
