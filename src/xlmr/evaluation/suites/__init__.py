"""Labelled rows of every task, read strictly: a fault names file, line and column, never the text.

    for file in read_split(Path("data/ner"), "test", TAG):
        print(file.sha256, len(file.rows))

Formats, by the ending of a file: JSONL, CSV, TSV, Parquet (needs pyarrow), CoNLL, CoNLL-U, SQuAD's
JSON, and plain text for language modelling. And folders that Hugging Face's `datasets` saved.
"""

from __future__ import annotations

from xlmr.evaluation.suites.files import (
    SUFFIXES,
    Faults,
    check_languages,
    columns_of,
    read_file,
    read_split,
)
from xlmr.evaluation.suites.rows import (
    Answer,
    AnswerRow,
    AnyRow,
    BitextRow,
    DataFile,
    MultiLabelRow,
    PairRow,
    PairScoreRow,
    RankRow,
    Row,
    RowT,
    ScoreRow,
    Table,
    TagRow,
    TextRow,
    by_language,
)
from xlmr.evaluation.suites.schemas import (
    ANSWER,
    BITEXT,
    CLASSIFY,
    INFER,
    MULTI_LABEL,
    PARAPHRASE,
    PLAIN_TEXT,
    RANK,
    SCORE,
    SIMILARITY,
    TAG,
    TAG_WORDS,
    Schema,
)

__all__ = [
    "ANSWER",
    "BITEXT",
    "CLASSIFY",
    "INFER",
    "MULTI_LABEL",
    "PARAPHRASE",
    "PLAIN_TEXT",
    "RANK",
    "SCORE",
    "SIMILARITY",
    "SUFFIXES",
    "TAG",
    "TAG_WORDS",
    "Answer",
    "AnswerRow",
    "AnyRow",
    "BitextRow",
    "DataFile",
    "Faults",
    "MultiLabelRow",
    "PairRow",
    "PairScoreRow",
    "RankRow",
    "Row",
    "RowT",
    "Schema",
    "ScoreRow",
    "Table",
    "TagRow",
    "TextRow",
    "by_language",
    "check_languages",
    "columns_of",
    "read_file",
    "read_split",
]
