"""A recipe's rows together with labelled texts that came later: the data of the next training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from xlmr.training.data import read_examples
from xlmr.training.later import Said, Values, labels_in, said_of
from xlmr.training.objectives import schema_of
from xlmr.training.recipe import Recipe
from xlmr.wholly import write_whole

# Of the later rows, where the recipe has rows to choose on.
_DEV_SHARE = 0.2


def join_rows(recipe: Recipe, later: Sequence[Mapping[str, str]], directory: Path) -> Recipe:
    """Writes the rows of both into a directory; the recipe that learns from them.

    A fifth of the later rows, decided by their ids, are to choose and calibrate on, where the
    recipe has such rows at all and training knows the label. Those whose label says no row (see
    `xlmr.training.later`) are left out.

    Args:
        recipe: of the parent; its own languages are those it learned from.
        later: rows with `text`, `label`, `language` and `id`.
        directory: where `train.jsonl`, `dev.jsonl` and `calibrate.jsonl` are written.

    Raises:
        DataError: the recipe's own data cannot be read.
        SettingsError: labels cannot say what the recipe learns.
        OSError: the directory cannot be written.
    """
    said = said_of(recipe)
    base = read_examples(recipe.data, schema_of(recipe))
    train = [_plain(row, said) for row in base.train]
    dev = [_plain(row, said) for row in base.dev]
    calibrate = [_plain(row, said) for file in base.calibrate_files for row in file.rows]
    held_out: list[Values] = []
    for row in later:
        values = said.read(row["text"], row["label"])
        if values is not None:
            part = held_out if base.dev and _draw(row["id"]) < _DEV_SHARE else train
            part.append(values | {"language": row["language"], "id": row["id"]})
    known = {label for values in train for label in labels_in(values)}
    for values in held_out:
        (dev if labels_in(values) <= known else train).append(values)
    written = {
        name: _write(directory / f"{name}.jsonl", rows)
        for name, rows in (("train", train), ("dev", dev), ("calibrate", calibrate))
    }
    data = msgspec.structs.replace(recipe.data, languages=(), columns={}, **written)
    return msgspec.structs.replace(recipe, data=data, encoder=str(Path(recipe.encoder).absolute()))


def _plain(row: Any, said: Said) -> Values:
    return said.write(row) | {"language": row.language, "id": row.id}


def _write(path: Path, rows: Iterable[Values]) -> str:
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
