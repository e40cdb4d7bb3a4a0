"""What each task expects of a row: one schema for each, from named values to a row.

A file whose columns are called otherwise is read by saying so:

    RANK.with_columns(query="question", positive="answer")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic

from xlmr.evaluation.suites.record import Record, kind
from xlmr.evaluation.suites.rows import (
    Answer,
    AnswerRow,
    BitextRow,
    MultiLabelRow,
    PairRow,
    PairScoreRow,
    RankRow,
    Row,
    RowT,
    ScoreRow,
    TagRow,
    TextRow,
)
from xlmr.evaluation.suites.spans import (
    Places,
    entities_of_tags,
    entity,
    find_words,
    join_words,
    mend_tags,
    split_words,
    tags_of_entities,
)
from xlmr.types import Entity

_IOB2 = re.compile(r"O|[BI]-\S+")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Schema(Generic[RowT]):
    """How rows of one task are read.

    Attributes:
        name: of the task.
        columns: what every row must have.
        build: makes a row of a record and its language key.
        names: our name of a column → the file's, where they differ.
    """

    name: str
    columns: tuple[str, ...]
    build: Callable[[Record, str], RowT]
    names: Mapping[str, str] = field(default_factory=dict)

    def with_columns(self, **names: str) -> Schema[RowT]:
        """The same task from a file that calls its columns otherwise."""
        return replace(self, names={**self.names, **names})

    @property
    def file_columns(self) -> tuple[str, ...]:
        """What every row must have, as the file calls it."""
        return tuple(self.names.get(column, column) for column in self.columns)

    def read(self, record: Record, language: str | None) -> RowT:
        """A row, its language from its own column or else from the name of the file.

        Raises:
            DataError: a value is missing or is not what the task expects.
        """
        record = record.named(self.names)
        for column in self.columns:
            record.value(column)  # what every row has is missed before a language is
        return self.build(record, _language(record, language))


def _language(record: Record, promised: str | None) -> str:
    if promised is not None and "language" not in record:
        return promised
    language = record.label("language")
    if not _LANGUAGE.fullmatch(language):
        raise record.fault("language", "expected a code like en or zh-Hant")
    return language


def _id(record: Record) -> str:
    """A name or a number; nothing where it is neither, for no answer depends on it."""
    value = record.value("id") if record.has("id") else ""
    named = isinstance(value, str | int) and not isinstance(value, bool)
    return str(value).strip() if named else ""


def _classify(record: Record, language: str) -> Row:
    return Row(record.text("text"), record.label("label"), language, record.line, _id(record))


def _classify_multi(record: Record, language: str) -> MultiLabelRow:
    labels = [label.strip() for label in record.texts("labels")]
    if len(set(labels)) < len(labels):
        raise record.fault("labels", "the same label twice")
    return MultiLabelRow(
        record.text("text"), tuple(sorted(labels)), language, record.line, _id(record)
    )


def _score(record: Record, language: str) -> ScoreRow:
    return ScoreRow(record.text("text"), record.number("score"), language, record.line, _id(record))


def _tag(record: Record, language: str) -> TagRow:
    if record.has("spans"):
        return _tag_spans(record, language)
    text, places = _places(record)
    tags = _tags(record, len(places))
    for i, tag in enumerate(tags):
        if not _IOB2.fullmatch(tag):
            raise record.fault(
                f"tags[{i}]", "expected O, B-… or I-…", hint="tags are IOB2: B-PER I-PER O"
            )
    mended = mend_tags(tags)
    return TagRow(
        text=text,
        words=places,
        tags=mended,
        entities=entities_of_tags(text, places, mended),
        orphans=sum(given != tag for given, tag in zip(tags, mended, strict=True)),
        language=language,
        line=record.line,
        id=_id(record),
    )


def _tag_words(record: Record, language: str) -> TagRow:
    text, places = _places(record)
    tags = _tags(record, len(places))
    return TagRow(text, places, tags, (), 0, language, record.line, _id(record))


def _tag_spans(record: Record, language: str) -> TagRow:
    text = record.text("text")
    spans = sorted(
        (_span(record, text, i, item) for i, item in enumerate(record.items("spans"))),
        key=lambda pair: (pair[0].start, pair[0].end),
    )
    entities = [span for span, _ in spans]
    for before, (after, place) in zip(entities, spans[1:], strict=False):
        if after.start < before.end:
            raise record.fault(f"spans[{place}].start", "overlaps another span")
    places = split_words(text)
    tags = tags_of_entities(places, entities)
    return TagRow(text, places, tags, tuple(entities), 0, language, record.line, _id(record))


def _span(record: Record, text: str, i: int, item: object) -> tuple[Entity, int]:
    column = f"spans[{i}]"
    if not isinstance(item, dict):
        raise record.fault(column, f"expected an object, got {kind(item)}")
    start = _place(record, f"{column}.start", item.get("start"), 0, len(text) - 1)
    end = _place(record, f"{column}.end", item.get("end"), start + 1, len(text))
    label = record.check_text(item.get("label"), f"{column}.label").strip()
    if not text[start:end].strip():
        raise record.fault(column, "covers nothing but blanks")
    return entity(text, label, start, end), i


def _places(record: Record) -> tuple[str, Places]:
    tokens = record.texts("tokens")
    if not tokens:
        raise record.fault("tokens", "expected words, got none")
    if not record.has("text"):
        return join_words(tokens)
    text = record.text("text")
    places = find_words(text, tokens)
    if len(places) < len(tokens):
        raise record.fault(f"tokens[{len(places)}]", "is not what follows in the text")
    return text, places


def _tags(record: Record, count: int) -> tuple[str, ...]:
    tags = record.texts("tags")
    if len(tags) != count:
        raise record.fault("tags", f"{len(tags)} tags for {count} words")
    return tags


def _answer(record: Record, language: str) -> AnswerRow:
    context = record.text("context")
    return AnswerRow(
        question=record.text("question"),
        context=context,
        answers=tuple(_answers(record, context)),
        id=record.label("id") if record.has("id") else "",
        language=language,
        line=record.line,
    )


def _answers(record: Record, context: str) -> list[Answer]:
    found: list[Answer] = []
    for i, (column, text, start) in enumerate(_said_answers(record)):
        if not isinstance(text, str):
            raise record.fault(f"answers[{i}].text", f"expected text, got {kind(text)}")
        if text == "":  # how some data sets write that there is no answer
            continue
        record.check_text(text, f"answers[{i}].text")
        place = _place(record, f"answers[{i}].{column}", start, 0, len(context) - 1)
        if not context.startswith(text, place):
            raise record.fault(
                f"answers[{i}].{column}",
                "the answer does not stand there in the context",
                hint="starts count characters of the context, from 0, not bytes",
            )
        found.append(Answer(text, place))
    return found


def _said_answers(record: Record) -> list[tuple[str, object, object]]:
    """Each answer's column of the start, its text and its start.

    Answers are a list of objects, or one object of two lists, as in Hugging Face's copies of SQuAD.
    """
    value = record.value("answers")
    if isinstance(value, dict):
        texts, starts = value.get("text"), value.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list):
            raise record.fault("answers", "expected lists text and answer_start")
        if len(texts) != len(starts):
            raise record.fault("answers", f"{len(starts)} starts for {len(texts)} texts")
        return [("answer_start", text, start) for text, start in zip(texts, starts, strict=True)]
    said: list[tuple[str, object, object]] = []
    for i, item in enumerate(record.items("answers")):
        if not isinstance(item, dict):
            raise record.fault(f"answers[{i}]", f"expected an object, got {kind(item)}")
        column = "answer_start" if "answer_start" in item else "start"
        said.append((column, item.get("text"), item.get(column)))
    return said


def _place(record: Record, column: str, value: object, low: int, high: int) -> int:
    """A number of characters, within bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise record.fault(column, f"expected a whole number, got {kind(value)}")
    if not low <= value <= high:
        raise record.fault(column, f"expected {low} to {high}")
    return value


def _pair(first: str, second: str) -> Callable[[Record, str], PairRow]:
    def build(record: Record, language: str) -> PairRow:
        a, b = record.text(first), record.text(second)
        return PairRow(a, b, record.label("label"), language, record.line, _id(record))

    return build


def _similarity(record: Record, language: str) -> PairScoreRow:
    a, b = record.text("a"), record.text("b")
    return PairScoreRow(a, b, record.number("score"), language, record.line, _id(record))


def _bitext(record: Record, language: str) -> BitextRow:
    return BitextRow(record.text("en"), record.text("text"), language, record.line, _id(record))


def _rank(record: Record, language: str) -> RankRow:
    negatives: Sequence[str] = record.texts("negatives") if record.has("negatives") else ()
    positive = record.text("positive")
    if positive in negatives:
        place = list(negatives).index(positive)
        raise record.fault(f"negatives[{place}]", "is also the positive")
    return RankRow(
        record.text("query"), positive, tuple(negatives), language, record.line, _id(record)
    )


def _plain(record: Record, language: str) -> TextRow:
    return TextRow(record.text("text"), language, record.line, _id(record))


CLASSIFY = Schema("classify", ("text", "label"), _classify)
MULTI_LABEL = Schema("multi-label", ("text", "labels"), _classify_multi)
SCORE = Schema("score", ("text", "score"), _score)
# Either tokens and IOB2 tags, perhaps with the text they stand in; or text and spans, each with
# start, end (characters of the text, from 0) and label.
TAG = Schema("tag", (), _tag)
# Tokens and one plain label each, such as parts of speech.
TAG_WORDS = Schema("tag-words", ("tokens", "tags"), _tag_words)
ANSWER = Schema("answer", ("context", "question", "answers"), _answer)
INFER = Schema("infer", ("premise", "hypothesis", "label"), _pair("premise", "hypothesis"))
PARAPHRASE = Schema("paraphrase", ("a", "b", "label"), _pair("a", "b"))
SIMILARITY = Schema("similarity", ("a", "b", "score"), _similarity)
BITEXT = Schema("bitext", ("en", "text"), _bitext)
RANK = Schema("rank", ("query", "positive"), _rank)
PLAIN_TEXT = Schema("plain-text", ("text",), _plain)
