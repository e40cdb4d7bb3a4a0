"""Texts that stand in two splits, or nearly: a set that was trained on proves nothing.

Two texts are near when, without case, punctuation and blanks, they are the same or share most of
their runs of five characters. Of two near rows the one in the earlier split gives way, so that what
is measured stays what it was.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal

import numpy as np

from xlmr.errors import DataError
from xlmr.evaluation.minhash import candidates, estimate, jaccard, pieces, signatures
from xlmr.evaluation.suites import RowT, Table

# stop: refuse such data. drop: leave the rows of the earlier split out. keep: count them only.
Policy = Literal["stop", "drop", "keep"]

THRESHOLD = 0.8
_DOUBT = 0.15  # four deviations of an estimate: nearer than this to the threshold it is computed


@dataclass(frozen=True, slots=True)
class Near:
    """A row of an earlier split, the row of a later one that it is near to, and how near (0 to 1).

    Rows are given by their place in their split, from 0.
    """

    split: str
    index: int
    other_split: str
    other_index: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Separated(Generic[RowT]):
    """Splits after near-duplicates were dealt with.

    Attributes:
        splits: what is left of each.
        counts: (language, split, later split) → rows of the split that are near to one there; each
            row counts once.
    """

    splits: dict[str, tuple[Table[RowT], ...]]
    counts: dict[tuple[str, str, str], int]


def same_sentence(text: str) -> str:
    """What two sentences share when only case, punctuation, blanks or code points differ."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.translate(_SPACES).split())


class _Spaces(dict[int, int]):
    """Characters that are no part of a word become spaces; what was asked once is remembered."""

    def __missing__(self, code: int) -> int:
        character = chr(code)
        # Vowel signs (Devanagari, Thai, ...) are marks: without them different words fall together.
        kept = character.isalnum() or unicodedata.category(character)[0] == "M"
        self[code] = code if kept else ord(" ")
        return self[code]


_SPACES = _Spaces()


def separate(
    splits: Mapping[str, Sequence[Table[RowT]]], *, policy: Policy, threshold: float = THRESHOLD
) -> Separated[RowT]:
    """Finds rows that are near to a row of a later split, and does with them as told.

    Args:
        splits: files by split, in order of who gives way: train, then dev, then test.
        policy: stop, drop or keep.
        threshold: the least similarity that counts as near, 0 to 1.

    Raises:
        DataError: the policy is to stop and there are such rows.
    """
    placed = {
        split: [(file, row) for file in files for row in file.rows]
        for split, files in splits.items()
    }
    texts = {split: ["\n".join(row.input) for _, row in rows] for split, rows in placed.items()}
    found = find_near(texts, threshold=threshold)
    counts = Counter(
        (placed[near.split][near.index][1].language, near.split, near.other_split) for near in found
    )
    if found and policy == "stop":
        near = found[0]
        file, row = placed[near.split][near.index]
        other_file, other_row = placed[near.other_split][near.other_index]
        raise DataError(
            f"{other_file.path}:{other_row.line}: text: also stands in {file.path}:{row.line}, "
            f"or nearly (similarity {near.similarity:.2f}; rows like that: {len(found)})",
            hint="a set that was trained on proves nothing: remove such rows from one of them",
        )
    left = {split: tuple(files) for split, files in splits.items()}
    if policy == "drop":
        left = {split: _without(files, split, found) for split, files in left.items()}
    return Separated(left, dict(sorted(counts.items())))


def find_near(splits: Mapping[str, Sequence[str]], *, threshold: float = THRESHOLD) -> list[Near]:
    """The rows that are near to a row of a later split, each once, in order.

    Texts without a letter or digit are near to nothing.

    Args:
        splits: texts by split, in order of who gives way.
        threshold: the least similarity that counts as near, 0 to 1.
    """
    names = list(splits)
    places: dict[tuple[int, str], list[int]] = {}
    for i, name in enumerate(names):
        for row, text in enumerate(splits[name]):
            if sentence := same_sentence(text):
                places.setdefault((i, sentence), []).append(row)
    keys = list(places)  # each sentence of a split once
    twins = _twins(keys)
    found: list[Near] = []
    for first, (second, similarity) in (twins | _neighbours(keys, twins, threshold)).items():
        (split, _), (other, _) = keys[first], keys[second]
        found += [
            Near(names[split], row, names[other], places[keys[second]][0], similarity)
            for row in places[keys[first]]
        ]
    return sorted(found, key=lambda near: (names.index(near.split), near.index))


def find_pairs(texts: Sequence[str], *, threshold: float = THRESHOLD) -> list[tuple[int, int]]:
    """Places of texts that are near to each other; of equal ones, each with the first.

    Texts without a letter or digit are near to nothing.
    """
    places: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        if sentence := same_sentence(text):
            places.setdefault(sentence, []).append(place)
    found = [(same[0], other) for same in places.values() for other in same[1:]]
    sentences = list(places)
    signatures_NK = signatures(sentences)
    pairs_P2 = candidates(signatures_NK, np.arange(len(sentences), dtype=np.int64))
    likely = estimate(signatures_NK, pairs_P2) >= threshold - _DOUBT
    for i, j in pairs_P2[likely].tolist():
        first, second = sentences[i], sentences[j]
        if jaccard(pieces(first), pieces(second)) >= threshold:
            found.append((places[first][0], places[second][0]))
    return found


def _twins(keys: Sequence[tuple[int, str]]) -> dict[int, tuple[int, float]]:
    """Sentences that a later split has too: place in `keys` → place there, similarity 1."""
    last = {sentence: place for place, (_, sentence) in enumerate(keys)}
    return {
        place: (last[sentence], 1.0)
        for place, (_, sentence) in enumerate(keys)
        if last[sentence] != place
    }


def _neighbours(
    keys: Sequence[tuple[int, str]], twins: Container[int], threshold: float
) -> dict[int, tuple[int, float]]:
    """The other sentences that share most of their pieces with one of a later split, likewise."""
    rest = [place for place in range(len(keys)) if place not in twins]
    signatures_NK = signatures([keys[place][1] for place in rest])
    pairs_P2 = candidates(signatures_NK, np.array([keys[place][0] for place in rest], np.int64))
    estimates_P = estimate(signatures_NK, pairs_P2)
    likely = estimates_P >= threshold - _DOUBT
    pairs_P2, estimates_P = pairs_P2[likely], estimates_P[likely]
    nearest = np.lexsort((-estimates_P, pairs_P2[:, 0]))
    found: dict[int, tuple[int, float]] = {}
    for i, j in pairs_P2[nearest].tolist():
        first, second = rest[i], rest[j]
        if first in found:
            continue
        similarity = jaccard(pieces(keys[first][1]), pieces(keys[second][1]))
        if similarity >= threshold:
            found[first] = second, similarity
    return found


def _without(
    files: Sequence[Table[RowT]], split: str, found: Sequence[Near]
) -> tuple[Table[RowT], ...]:
    near = {each.index for each in found if each.split == split}
    left: list[Table[RowT]] = []
    start = 0
    for file in files:
        rows = tuple(row for i, row in enumerate(file.rows, start) if i not in near)
        left.append(replace(file, rows=rows))
        start += len(file.rows)
    return tuple(left)
