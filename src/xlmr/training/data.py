"""What a run learns from: train rows, dev rows, and the promise that they do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xlmr.errors import DataError
from xlmr.evaluation.near_duplicates import Policy, separate
from xlmr.evaluation.suites import DataFile, Row, read_split


@dataclass(frozen=True, slots=True)
class Examples:
    """A run's data.

    Attributes:
        train: rows to learn from, in file order.
        dev: rows to choose and calibrate on; empty where there are none.
        labels: the training labels in alphabetical order; a label's place is its class.
        train_files: where `train` was read.
        dev_files: where `dev` was read.
        near_duplicates: language → training rows that are near to a dev row; they were left out
            where the caller asked for that.
    """

    train: tuple[Row, ...]
    dev: tuple[Row, ...]
    labels: tuple[str, ...]
    train_files: tuple[DataFile, ...]
    dev_files: tuple[DataFile, ...]
    near_duplicates: dict[str, int] = field(default_factory=dict)

    def classes(self, rows: Sequence[Row]) -> list[int]:
        """Each row's class."""
        place = {label: i for i, label in enumerate(self.labels)}
        return [place[row.label] for row in rows]

    def lineage(self) -> list[dict[str, Any]]:
        """The files by name, digest and count, for a model to carry."""
        return [
            {"split": split, "file": file.path.name, "sha256": file.sha256, "rows": len(file.rows)}
            for split, files in (("train", self.train_files), ("dev", self.dev_files))
            for file in files
        ]


def read_examples(
    train: Path,
    dev: Path | None = None,
    *,
    languages: Sequence[str] = (),
    near_duplicates: Policy = "stop",
) -> Examples:
    """Reads and checks a run's data.

    Args:
        train: a file, or a folder whose `<language>.train.jsonl` files are read.
        dev: likewise for dev. Where `train` is a folder and `dev` is not given, the same folder's
            dev files of the training languages are used if there are any.
        languages: train on these only; all where empty. A `dev` that is given is used whole.
        near_duplicates: what to do with training rows whose text is, or nearly is, that of a dev
            row: stop, drop them, or keep them.

    Raises:
        DataError: a row at fault, fewer than two labels, a dev label that training never saw,
            or, where the policy is to stop, a text that stands in both.
    """
    train_files = read_split(train, "train", languages=languages)
    dev_files = read_split(dev, "dev") if dev is not None else _neighbours(train, train_files)
    separated = separate({"train": train_files, "dev": dev_files}, policy=near_duplicates)
    train_files = separated.splits["train"]
    rows = tuple(row for file in train_files for row in file.rows)
    labels = tuple(sorted({row.label for row in rows}))
    if len(labels) < 2:
        raise DataError(
            f"{train}: every row has the same label", hint="a classifier needs at least two labels"
        )
    _check_dev(dev_files, labels)
    return Examples(
        train=rows,
        dev=tuple(row for file in dev_files for row in file.rows),
        labels=labels,
        train_files=train_files,
        dev_files=dev_files,
        near_duplicates={language: n for (language, *_), n in separated.counts.items()},
    )


def _neighbours(train: Path, train_files: Sequence[DataFile]) -> tuple[DataFile, ...]:
    if not train.is_dir():
        return ()
    used = sorted({row.language for file in train_files for row in file.rows})
    present = [language for language in used if any(train.glob(f"{language}.dev.*"))]
    return read_split(train, "dev", languages=present) if present else ()


def _check_dev(dev_files: Sequence[DataFile], labels: Sequence[str]) -> None:
    known = frozenset(labels)
    for file in dev_files:
        for row in file.rows:
            if row.label not in known:
                raise DataError(
                    f"{file.path}:{row.line}: label: none of the training rows has it",
                    hint=f"training knows {', '.join(sorted(known)[:20])}",
                )
