"""How a model's traffic looked when it was released: the file that later traffic is held against.

It is made once, of rows that neither training nor calibration saw, lies in the model directory and
never changes: its digest stands in everything that was counted or decided against it. Counts only,
as in `signals`, and how often answers of which confidence were right.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec

from xlmr.drift.signals import EDGES, MOST_LABELS, Sight, Signals, Sketch, whole_sketch
from xlmr.errors import DataError
from xlmr.wholly import write_whole

REFERENCE_FILE = "drift-reference.json"
_FORMAT = 1
_MILLION = 1_000_000
# Of more labels there are too few rows with each, and too many counts of which was said for which.
_MOST_CONFUSED = 24

_Count = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class Judged:
    """Answers whose truth is known, by bin of confidence.

    Attributes:
        rows: how many.
        right: how many of them were right.
        millionths: the sum of their confidences.
        confused: of all of them, by the label that was said and by the right one, both in the order
            of a sketch's bins; empty where that is not known, or there are very many labels.
    """

    rows: list[_Count]
    right: list[_Count]
    millionths: list[_Count]
    confused: list[list[_Count]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Expected:
    """One language: what was counted, and how right it was."""

    sketch: Sketch
    judged: Judged

    def to_json(self) -> dict[str, Any]:
        """Plain values; what came later is left out where it is not known."""
        judged = asdict(self.judged)
        if not self.judged.confused:
            del judged["confused"]
        return {"sketch": self.sketch.to_json(), "judged": judged}


@dataclass(frozen=True)
class Reference:
    """What is expected of a version's traffic for one task.

    Attributes:
        task: what was asked.
        source: which rows these were, in a word: `held-out`, `shadow`.
        labels: those told apart.
        languages: language → what is expected.
        mix: language → rows of real traffic; empty where the rows were picked, as those of a test
            set are: they say nothing of how frequent languages are.
    """

    task: str
    source: str
    labels: tuple[str, ...]
    languages: Mapping[str, Expected]
    mix: Mapping[str, int]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, hex."""
        canonical = json.dumps(self._content(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return self._content() | {"digest": self.digest}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Reference:
        """The reverse.

        Raises:
            DataError: something else, another release's bins, or not what was written.
        """
        if value.get("format") != _FORMAT:
            raise DataError(
                f"{REFERENCE_FILE}: expected format {_FORMAT}, got {value.get('format')!r}",
                hint="a newer xlmr wrote this model; upgrade",
            )
        try:
            plain = msgspec.convert(value, _Plain)
        except msgspec.ValidationError as fault:
            raise DataError(f"{REFERENCE_FILE}: {fault}") from None
        languages = {}
        for name, expected in plain.languages.items():
            _check_judged(name, expected.judged, len(plain.labels))
            sketch = whole_sketch(name, expected.sketch, len(plain.labels))
            languages[name] = Expected(sketch, expected.judged)
        read = cls(plain.task, plain.source, plain.labels, languages, plain.mix)
        if plain.digest != read.digest:
            raise DataError(
                f"{REFERENCE_FILE}: its content is not what was written",
                hint="take the file from the released version again",
            )
        return read

    def _content(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "task": self.task,
            "source": self.source,
            "labels": list(self.labels),
            "languages": {name: self.languages[name].to_json() for name in sorted(self.languages)},
            "mix": dict(sorted(self.mix.items())),
        }


def freeze(
    rows: Iterable[tuple[str, Sight, bool | None]],
    *,
    task: str,
    labels: Sequence[str] = (),
    source: str = "held-out",
    mix: Mapping[str, int] | None = None,
    truths: Sequence[str] = (),
) -> Reference:
    """A reference made of answered rows.

    Args:
        rows: language, what was seen, and whether the answer was right; None where that is unknown.
        task: what was asked.
        labels: those the model promises. Of very many the most frequent in the rows are told apart.
        source: which rows these are.
        mix: rows of real traffic by language, if known; without it the mix is not watched.
        truths: the right label of each row, if they are known of all.

    Raises:
        DataError: no rows.
    """
    rows = list(rows)
    if not rows:
        raise DataError("a drift reference needs rows", hint="evaluate on held-out rows first")
    signals = Signals("", task, _told_apart(rows, labels))
    bins = len(EDGES["confidence"]) + 1
    judged: dict[str, Judged] = {}
    place_of = {label: place for place, label in enumerate(signals.labels)}
    other = len(place_of)
    wide = other + 1 if truths and other <= _MOST_CONFUSED else 0
    for (language, sight, right), truth in zip(rows, truths or [""] * len(rows), strict=True):
        signals.see(language, sight)
        known = judged.setdefault(
            language,
            Judged([0] * bins, [0] * bins, [0] * bins, [[0] * wide for _ in range(wide)]),
        )
        if wide and sight.label is not None:
            known.confused[place_of.get(sight.label, other)][place_of.get(truth, other)] += 1
        if right is not None and sight.confidence is not None:
            place = bisect_right(EDGES["confidence"], sight.confidence)
            known.rows[place] += 1
            known.right[place] += right
            known.millionths[place] += round(sight.confidence * _MILLION)
    if signals.languages.keys() != judged.keys():
        raise DataError("a drift reference of more languages than are told apart")
    expected = {name: Expected(signals.languages[name], judged[name]) for name in judged}
    return Reference(task, source, signals.labels, expected, dict(mix or {}))


def write_reference(reference: Reference, directory: Path) -> None:
    """Puts it into a model directory, whole or not at all.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    write_whole(directory / REFERENCE_FILE, json.dumps(reference.to_json(), sort_keys=True))


def read_reference(directory: Path) -> Reference | None:
    """What a model directory carries; None where it carries nothing.

    Raises:
        DataError: the file is not what it should be.
    """
    path = directory / REFERENCE_FILE
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise DataError(f"{path}: cannot be read: {fault}") from fault
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected an object, got {type(value).__name__}")
    return Reference.from_json(value)


class _Plain(msgspec.Struct):
    task: str
    source: str
    labels: tuple[str, ...]
    languages: dict[str, Expected]
    mix: dict[str, _Count]
    digest: str


def _told_apart(
    rows: Sequence[tuple[str, Sight, bool | None]], labels: Sequence[str]
) -> tuple[str, ...]:
    if len(labels) <= MOST_LABELS:
        return tuple(labels)
    seen = Counter(sight.label for _, sight, _ in rows)
    frequent = sorted(labels, key=lambda label: -seen[label])[:MOST_LABELS]
    return tuple(label for label in labels if label in set(frequent))


def _check_judged(name: str, judged: Judged, labels: int) -> None:
    bins = len(EDGES["confidence"]) + 1
    lists = (judged.rows, judged.right, judged.millionths)
    more = any(right > rows for right, rows in zip(judged.right, judged.rows, strict=False))
    square = [len(row) for row in judged.confused] in ([], [labels + 1] * (labels + 1))
    if more or not square or any(len(counts) != bins for counts in lists):
        raise DataError(
            f"{REFERENCE_FILE}: {name} was judged on other bins, or more right than all"
        )
