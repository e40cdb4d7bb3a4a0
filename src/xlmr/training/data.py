"""What a run learns from: train rows, dev rows, and the promise that they do not overlap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any

from xlmr.errors import DataError
from xlmr.evaluation.near_duplicates import separate
from xlmr.evaluation.suites import AnyRow, Schema, Table, check_languages, read_split
from xlmr.evaluation.suites.saved import is_saved, saved_split
from xlmr.training.recipe import Data


@dataclass(frozen=True, slots=True)
class Examples:
    """A run's data.

    Attributes:
        train: rows to learn from, in file order.
        dev: rows to choose and calibrate on; empty where there are none.
        train_files: where `train` was read.
        dev_files: where `dev` was read.
        near_duplicates: language → training rows that are near to a dev row; they were left out
            where the caller asked for that.
        calibrate_files: rows to calibrate on alone; empty: those of `dev_files`.
        unknown_labels: language → held-out rows with a label that no training row has; they were
            left out where the caller asked for that.
    """

    train: tuple[Any, ...]
    dev: tuple[Any, ...]
    train_files: tuple[Table[Any], ...]
    dev_files: tuple[Table[Any], ...]
    near_duplicates: dict[str, int] = field(default_factory=dict)
    calibrate_files: tuple[Table[Any], ...] = ()
    unknown_labels: dict[str, int] = field(default_factory=dict)

    @property
    def held_out(self) -> tuple[Table[Any], ...]:
        """What evidence is gathered on."""
        return self.calibrate_files or self.dev_files

    @property
    def labels(self) -> tuple[str, ...]:
        """The training labels in alphabetical order, of rows that have one; its place is its class.

        Raises:
            DataError: fewer than two, or a dev label that no training row has.
        """
        labels = tuple(sorted({row.label for row in self.train}))
        if len(labels) < 2:
            raise DataError(
                f"{self.train_files[0].path}: every row has the same label",
                hint="a classifier needs at least two labels",
            )
        self.check_dev(labels, lambda row: (row.label,))
        return labels

    def classes(self, rows: Sequence[Any]) -> list[int]:
        """Each row's class."""
        place = {label: i for i, label in enumerate(self.labels)}
        return [place[row.label] for row in rows]

    def check_dev(self, labels: Sequence[str], labels_of: Any) -> None:
        """Refuses dev rows with a label that training never saw.

        Raises:
            DataError: names file and line.
        """
        known = frozenset(labels)
        for file in (*self.dev_files, *self.calibrate_files):
            for row in file.rows:
                if not known.issuperset(labels_of(row)):
                    raise DataError(
                        f"{file.path}:{row.line}: label: none of the training rows has it",
                        hint=f"training knows {', '.join(sorted(known)[:20])}; "
                        "data.unknown_labels=drop leaves such rows out",
                    )

    def lineage(self) -> list[dict[str, Any]]:
        """The files by name, digest and count, for a model to carry."""
        return [
            {"split": split, **file.origin}
            for split, files in (
                ("train", self.train_files),
                ("dev", self.dev_files),
                ("calibrate", self.calibrate_files),
            )
            for file in files
        ]


def read_examples(data: Data, schema: Schema[Any]) -> Examples:
    """Reads and checks a run's data.

    Raises:
        DataError: a row at fault; a language that has no training row; or, where the policy is to
            stop, a text that stands in both.
    """
    schema = schema.with_columns(**data.columns)
    train, languages = Path(data.train), data.languages
    train_files = read_split(train, data.train_split, schema, languages=languages)
    check_languages(train_files, languages, train, data.train_split)
    if data.dev:
        dev_files = read_split(Path(data.dev), data.dev_split, schema)
    else:
        dev_files = _neighbours(train, data.dev_split, train_files, schema)
    calibrate_files: tuple[Table[Any], ...] = ()
    if data.calibrate:
        calibrate_files = read_split(Path(data.calibrate), data.dev_split, schema)
    held_out = (*dev_files, *calibrate_files)
    separated = separate({"train": train_files, "dev": held_out}, policy=data.near_duplicates)
    train_files = separated.splits["train"]
    rows = tuple(row for file in train_files for row in file.rows)
    if not rows:
        raise DataError(
            f"{train}: every training row nearly repeats a dev row",
            hint="train and dev are the same data: give other dev rows",
        )
    unknown: Counter[str] = Counter()
    if data.unknown_labels == "drop":
        known = frozenset(label for row in rows for label in _labels_of(row))
        dev_files = _only(known, dev_files, unknown)
        calibrate_files = _only(known, calibrate_files, unknown)
    return Examples(
        train=rows,
        dev=tuple(row for file in dev_files for row in file.rows),
        train_files=train_files,
        dev_files=dev_files,
        near_duplicates={language: n for (language, *_), n in separated.counts.items()},
        calibrate_files=calibrate_files,
        unknown_labels=dict(sorted(unknown.items())),
    )


def _labels_of(row: Any) -> set[str]:
    """What a row is said to be, by any task; nothing where its task has no labels."""
    if hasattr(row, "entities"):
        return {entity.label for entity in row.entities}
    return set(row.labels) if hasattr(row, "labels") else {str(getattr(row, "label", ""))}


def _only(
    known: frozenset[str], files: Sequence[Table[Any]], unknown: Counter[str]
) -> tuple[Table[Any], ...]:
    """The rows whose labels are all known; the others are counted by language."""
    kept = []
    for file in files:
        fits = [known.issuperset(_labels_of(row)) for row in file.rows]
        unknown.update(row.language for row, fit in zip(file.rows, fits, strict=True) if not fit)
        kept.append(replace(file, rows=tuple(compress(file.rows, fits))))
    return tuple(file for file in kept if file.rows)


def _neighbours(
    train: Path, split: str, train_files: Sequence[Table[Any]], schema: Schema[Any]
) -> tuple[Table[Any], ...]:
    """The dev files of the training languages that lie beside the train files."""
    if not train.is_dir():
        return ()
    if is_saved(train):
        # A data set without splits is one file, and has no neighbours.
        there = saved_split(train, split) not in (None, train)
        return read_split(train, split, schema) if there else ()
    used = sorted({row.language for file in train_files for row in file.rows})
    present = [language for language in used if any(train.glob(f"{language}.{split}.*"))]
    return read_split(train, split, schema, languages=present) if present else ()


def languages_of(rows: Sequence[AnyRow]) -> list[str]:
    """In alphabetical order."""
    return sorted({row.language for row in rows})
