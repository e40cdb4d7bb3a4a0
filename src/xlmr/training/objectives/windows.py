"""Rows that may be longer than a window: read piece by piece, and put together again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from xlmr.text.tokenizer import Tokenizer
from xlmr.training.data import Examples
from xlmr.training.objective import Feature
from xlmr.types import Encoding

# An uncut encoding is some hundred times its text: so many are held at once and no more.
_TOGETHER = 256


def whole_encodings(
    tokenizer: Tokenizer, items: Sequence[str | tuple[str, str]]
) -> Iterator[Encoding]:
    """Each text or pair uncut, in order.

    Raises:
        InputError: a text that is not Unicode text.
    """
    for start in range(0, len(items), _TOGETHER):
        yield from tokenizer.encode_many_whole(items[start : start + _TOGETHER])


def outputs_by_row(
    features: Sequence[Feature], outputs: Sequence[Any]
) -> dict[int, list[tuple[Feature, Any]]]:
    """Each row's features with what the network said of them, rows rising."""
    found: dict[int, list[tuple[Feature, Any]]] = {}
    for feature, output in zip(features, outputs, strict=True):
        found.setdefault(feature.row, []).append((feature, output))
    return dict(sorted(found.items()))


def place_of(row: Any, examples: Examples) -> str:
    """`file:line` of a row, for errors."""
    files = (*examples.train_files, *examples.dev_files)
    here = (file.path for file in files if any(each is row for each in file.rows))
    return f"{next(here, 'row')}:{row.line}"
