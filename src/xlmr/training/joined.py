"""A recipe's rows together with labelled texts that came later: the data of the next training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from xlmr.errors import SettingsError
from xlmr.training.data import read_examples
from xlmr.training.objectives import schema_of
from xlmr.training.recipe import Recipe
from xlmr.training.rundir import write_whole

# Of the later rows, where the recipe has rows to choose on.
_DEV_SHARE = 0.2


def check_joinable(recipe: Recipe) -> None:
    """That later labels say what this recipe learns.

    Raises:
        SettingsError: they do not.
    """
    if recipe.task != "classify" or recipe.data.rows:
        raise SettingsError(
            f"labels of answers say one label for a text; this recipe learns {recipe.task}",
            hint='a recipe with task = "classify"',
        )


def join_rows(recipe: Recipe, later: Sequence[Mapping[str, str]], directory: Path) -> Recipe:
    """Writes the rows of both into a directory; the recipe that learns from them.

    A fifth of the later rows, decided by their ids, are to choose and calibrate on, where the
    recipe has such rows at all and training knows the label.

    Args:
        recipe: of the parent; its own languages are those it learned from.
        later: rows with `text`, `label`, `language` and `id`.
        directory: where `train.jsonl`, `dev.jsonl` and `calibrate.jsonl` are written.

    Raises:
        DataError: the recipe's own data cannot be read.
        OSError: the directory cannot be written.
    """
    base = read_examples(recipe.data, schema_of(recipe))
    train = [_plain(row) for row in base.train]
    dev = [_plain(row) for row in base.dev]
    calibrate = [_plain(row) for file in base.calibrate_files for row in file.rows]
    held_out = {row["id"] for row in later if base.dev and _draw(row["id"]) < _DEV_SHARE}
    train += [dict(row) for row in later if row["id"] not in held_out]
    known = {row["label"] for row in train}
    for row in later:
        if row["id"] in held_out:
            (dev if row["label"] in known else train).append(dict(row))
    written = {
        name: _write(directory / f"{name}.jsonl", rows)
        for name, rows in (("train", train), ("dev", dev), ("calibrate", calibrate))
    }
    data = msgspec.structs.replace(recipe.data, languages=(), columns={}, **written)
    return msgspec.structs.replace(recipe, data=data, encoder=str(Path(recipe.encoder).absolute()))


def _plain(row: Any) -> dict[str, str]:
    return {"text": row.text, "label": row.label, "language": row.language, "id": row.id}


def _write(path: Path, rows: Iterable[Mapping[str, str]]) -> str:
    """The path of the file; empty where there are no rows to write."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    if not lines:
        return ""
    write_whole(path, "".join(lines))
    return str(path.absolute())


def _draw(name: str) -> float:
    """A number from 0 to below 1, as good as random, that a name keeps."""
    data = name.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(data, digest_size=8, key=b"held out").digest()
    return int.from_bytes(digest) / 2**64
