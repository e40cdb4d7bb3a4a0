"""What a labelled row is, task by task, and a file of such rows.

Every row knows its language and the line of its file where it starts (from 1). `input` is what a
model reads of it, `answer` what it should say: two rows with the same input and another answer
contradict each other. Rows may have an `id`: what the same row in other languages is called too;
empty where the data does not say.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeAlias, TypeVar

from xlmr.types import Entity


class AnyRow(Protocol):
    """What rows of every task have in common."""

    @property
    def language(self) -> str:
        """The language key: of the row's own column, or of the file's name."""

    @property
    def line(self) -> int:
        """Where the row starts in its file, from 1."""

    @property
    def input(self) -> tuple[str, ...]:
        """The texts a model reads."""

    @property
    def answer(self) -> Hashable:
        """What it should answer; None where the row says nothing about that."""


@dataclass(frozen=True, slots=True)
class Row:
    """One text with one label."""

    text: str
    label: str
    language: str
    line: int
    id: str = ""

    @property
    def input(self) -> tuple[str, ...]:
        """The text."""
        return (self.text,)

    @property
    def answer(self) -> Hashable:
        """The label."""
        return self.label


@dataclass(frozen=True, slots=True)
class MultiLabelRow:
    """One text with any number of labels, none included; in alphabetical order."""

    text: str
    labels: tuple[str, ...]
    language: str
    line: int
    id: str = ""

    @property
    def input(self) -> tuple[str, ...]:
        """The text."""
        return (self.text,)

    @property
    def answer(self) -> Hashable:
        """The labels."""
        return self.labels


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One text with a number."""

    text: str
    score: float
    language: str
    line: int
    id: str = ""

    @property
    def input(self) -> tuple[str, ...]:
        """The text."""
        return (self.text,)

    @property
    def answer(self) -> Hashable:
        """The number."""
        return self.score


@dataclass(frozen=True, slots=True)
class TagRow:
    """A text whose words carry tags.

    Attributes:
        text: the text; of a row that gives words only, these with a blank between.
        words: (start, end) in characters of each word, rising.
        tags: one for each word, IOB2 unless the schema asks for plain labels.
        entities: what the tags, or the spans of the row, mark in the text; score 1. Spans stay as
            the row gives them, even where they end inside a word.
        orphans: tags that were `I-` without anything to continue, read as `B-`.
    """

    text: str
    words: tuple[tuple[int, int], ...]
    tags: tuple[str, ...]
    entities: tuple[Entity, ...]
    orphans: int
    language: str
    line: int
    id: str = ""

    @property
    def tokens(self) -> tuple[str, ...]:
        """The words as texts."""
        return tuple(self.text[start:end] for start, end in self.words)

    @property
    def input(self) -> tuple[str, ...]:
        """The text."""
        return (self.text,)

    @property
    def answer(self) -> Hashable:
        """Words, tags and entities."""
        return self.words, self.tags, self.entities


@dataclass(frozen=True, slots=True)
class Answer:
    """A span of a context: `context[start:start + len(text)] == text`."""

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """A question about a context, and every answer that counts as right.

    Attributes:
        answers: none where the context does not hold one.
    """

    question: str
    context: str
    answers: tuple[Answer, ...]
    id: str
    language: str
    line: int

    @property
    def input(self) -> tuple[str, ...]:
        """Question and context."""
        return self.question, self.context

    @property
    def answer(self) -> Hashable:
        """The answers."""
        return self.answers


@dataclass(frozen=True, slots=True)
class PairRow:
    """Two texts with one label: premise and hypothesis, or two sentences that may say the same."""

    first: str
    second: str
    label: str
    language: str
    line: int
    id: str = ""

    @property
    def input(self) -> tuple[str, ...]:
        """Both texts."""
        return self.first, self.second

    @property
    def answer(self) -> Hashable:
        """The label."""
        return self.label


@dataclass(frozen=True, slots=True)
class PairScoreRow:
    """Two texts and how similar they are, on the data set's own scale."""

    first: str
    second: str
    score: float
    language: str
    line: int
    id: str = ""

    @property
    def input(self) -> tuple[str, ...]:
        """Both texts."""
        return self.first, self.second

    @property
    def answer(self) -> Hashable:
        """The number."""
        return self.score


@dataclass(frozen=True, slots=True)
class BitextRow:
    """An English sentence and its translation, which is in the row's language."""

    english: str
    text: str
    language: str
    line: int
    id: str = ""

    @property
    def input(self) -> tuple[str, ...]:
        """Both sentences."""
        return self.english, self.text

    @property
    def answer(self) -> Hashable:
        """None: that they stand in one row is the answer."""
        return None


@dataclass(frozen=True, slots=True)
class RankRow:
    """A query, a document that answers it, and documents that do not (none where not known)."""

    query: str
    positive: str
    negatives: tuple[str, ...]
    language: str
    line: int
    id: str = ""

    @property
    def input(self) -> tuple[str, ...]:
        """Query and document."""
        return self.query, self.positive

    @property
    def answer(self) -> Hashable:
        """The documents that do not answer."""
        return self.negatives


@dataclass(frozen=True, slots=True)
class TextRow:
    """Plain text, as language modelling reads it."""

    text: str
    language: str
    line: int
    id: str = ""

    @property
    def input(self) -> tuple[str, ...]:
        """The text."""
        return (self.text,)

    @property
    def answer(self) -> Hashable:
        """None."""
        return None


RowT = TypeVar("RowT", bound=AnyRow)


@dataclass(frozen=True, slots=True)
class Table(Generic[RowT]):
    """A file's rows in order.

    Attributes:
        path: where it was read.
        sha256: of the file's bytes, all rows included.
        rows: what is used of it.
        duplicates: rows dropped because they repeat an earlier one exactly.
        contradictions: rows kept although an earlier one has the same input and another answer.
        refused: what was wrong with rows that were left out because the caller asked for that.
    """

    path: Path
    sha256: str
    rows: tuple[RowT, ...]
    duplicates: int
    contradictions: int
    refused: tuple[str, ...] = ()

    @property
    def origin(self) -> dict[str, str | int]:
        """Name, digest and rows, for a report or a model to carry; not where the file lies."""
        return {"file": self.path.name, "sha256": self.sha256, "rows": len(self.rows)}


DataFile: TypeAlias = Table[Row]


def by_language(files: Sequence[Table[RowT]]) -> dict[str, tuple[RowT, ...]]:
    """All rows by language, languages in alphabetical order."""
    rows: dict[str, list[RowT]] = {}
    for file in files:
        for row in file.rows:
            rows.setdefault(row.language, []).append(row)
    return {language: tuple(rows[language]) for language in sorted(rows)}
