"""Every answer comes back as it was, and no byte of it holds what somebody wrote."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr import types
from xlmr.model.prepared import (
    AnswerOptions,
    ClassifyOptions,
    EmbedOptions,
    FillOptions,
    RerankOptions,
    TagOptions,
    ZeroShotOptions,
)
from xlmr.serving.cache_codec import pack, unpack

MARK = "Marzipanschwein"
ACCOUNTING = types.Accounting(tokens=9, total_tokens=700, truncated=True, windows=2, unknown=3)
LANGUAGE = types.Language("ceb", 0.1234567890123)


def scores(*values: float) -> list[float]:
    return [float(np.float32(value)) for value in values]


def labelled(*names: str, **fields: object) -> types.Classification:
    pairs = zip(names, scores(*(1 / (i + 3) for i in range(len(names)))), strict=True)
    return types.Classification(
        tuple(types.LabelScore(*pair) for pair in pairs), ACCOUNTING, **fields
    )


TEXT = f"Anna {MARK} lives in Paris"
CASES = {
    "labels": (
        labelled(
            "refund",
            "delivery",
            language="de",
            calibrated=True,
            abstained=False,
            chosen=("refund",),
            entropy=0.1 + 0.2,
        ),
        TEXT,
        ClassifyOptions(),
    ),
    "labels of a pair, languages said": (
        labelled("a", language=MARK),
        (TEXT, TEXT),
        ClassifyOptions(languages=["en", MARK]),
    ),
    "labels made up by the caller": (
        labelled(MARK, "other"),
        TEXT,
        ZeroShotOptions(labels=["other", MARK]),
    ),
    "entities": (
        types.Tagging(
            (
                types.Entity("PER", 5, 20, MARK, scores(0.7)[0]),
                types.Entity("LOC", 30, 35, "Paris", 0.1),
            ),
            ACCOUNTING,
        ),
        TEXT,
        TagOptions(),
    ),
    "entities in words": (
        types.Tagging((types.Entity("PER", 0, 20, f"Anna {MARK}", 0.5),), ACCOUNTING),
        ["Anna", MARK, "lives"],
        TagOptions(),
    ),
    "a span": (
        types.SpanAnswer(MARK, 5, 20, 0.123456789, math.inf, ACCOUNTING),
        ("who?", TEXT),
        AnswerOptions(),
    ),
    "a vector": (
        types.Embedding(np.array([0.1, -1e-30, 3e38], np.float32), ACCOUNTING),
        TEXT,
        EmbedOptions(),
    ),
    "a relevance": (types.Ranked(1, 0.123456789, ACCOUNTING), TEXT, RerankOptions(query=MARK)),
    "fillings": (
        types.Filling(
            ((types.LabelScore("cat", 0.25),), (types.LabelScore("犬", 1e-300),)), ACCOUNTING
        ),
        f"<mask> {MARK} <mask>",
        FillOptions(),
    ),
}


def same(one: object, other: object) -> bool:
    if isinstance(one, types.Embedding):
        assert isinstance(other, types.Embedding)
        return one.accounting == other.accounting and np.array_equal(one.vector, other.vector)
    return one == other


@pytest.mark.parametrize("name", CASES)
def test_an_answer_comes_back_as_it_was_and_holds_no_text(name):
    answer, item, options = CASES[name]
    data = pack(answer, LANGUAGE, item=item, options=options)
    assert data is not None
    assert MARK.encode() not in data
    found = unpack(data, item=item, options=options, place=1)
    assert found is not None
    assert same(answer, found[0])
    assert found[1] == LANGUAGE


def test_every_field_of_every_answer_is_among_the_cases():
    """A field added to an answer must be kept as well, so some case gives it another value."""
    kinds = {type(answer) for answer, _, _ in CASES.values()}
    for kind in kinds:
        for field in dataclasses.fields(kind):
            if field.default is not dataclasses.MISSING:
                values = [getattr(a, field.name) for a, _, _ in CASES.values() if type(a) is kind]
                assert any(value != field.default for value in values), (kind, field.name)


@given(
    st.lists(st.floats(allow_nan=False) | st.floats(width=32, allow_nan=False), max_size=20),
    st.text(max_size=5),
)
def test_scores_are_exact_whatever_they_are(values, label):
    labels = tuple(types.LabelScore(label, value) for value in values)
    answer = types.Classification(labels, ACCOUNTING)
    data = pack(answer, LANGUAGE, item="a", options=ClassifyOptions())
    assert data is not None
    assert unpack(data, item="a", options=ClassifyOptions(), place=0) == (answer, LANGUAGE)


def test_scores_of_a_model_take_four_bytes_each():
    def size(*values: float) -> int:
        labels = tuple(types.LabelScore("a", value) for value in values)
        answer = types.Classification(labels, ACCOUNTING)
        return len(pack(answer, LANGUAGE, item="a", options=ClassifyOptions()) or b"")

    assert size(0.1, 0.2) - size(*scores(0.1, 0.2)) == 8


@pytest.mark.parametrize(
    ("answer", "item", "options"),
    [
        (object(), TEXT, EmbedOptions()),
        (types.Embedding(np.zeros(3), ACCOUNTING), TEXT, EmbedOptions()),
        (types.Embedding(np.zeros((2, 3), np.float32), ACCOUNTING), TEXT, EmbedOptions()),
        (CASES["entities"][0], [0, 5, 2], TagOptions()),
        (CASES["entities"][0], "another text", TagOptions()),
        (CASES["a span"][0], ("who?", "nobody"), AnswerOptions()),
        (labelled("not asked for"), TEXT, ZeroShotOptions(labels=["a"])),
    ],
)
def test_what_could_not_be_given_back_exactly_is_not_kept(answer, item, options):
    assert pack(answer, LANGUAGE, item=item, options=options) is None


@given(st.binary(max_size=60), st.sampled_from(sorted(CASES)), st.integers(0, 200))
def test_foreign_and_damaged_bytes_are_nobodys_answer(noise, name, cut):
    answer, item, options = CASES[name]
    data = pack(answer, LANGUAGE, item=item, options=options)
    assert data is not None
    for damaged in (noise, data[:cut], data[:cut] + noise + data[cut + 1 :], data[1:], b""):
        found = unpack(damaged, item=item, options=options, place=1)
        assert found is None or isinstance(found[1], types.Language)


def test_an_answer_of_one_kind_is_not_read_for_a_request_of_another():
    span, pair, options = CASES["a span"]
    data = pack(span, LANGUAGE, item=pair, options=options)
    assert data is not None
    assert unpack(data, item="one text", options=options, place=0) is None
    made_up = pack(*CASES["labels"][:1], LANGUAGE, item="a", options=ClassifyOptions())
    assert made_up is not None
    asked = ZeroShotOptions(labels=["a"])
    assert unpack(made_up, item="a", options=asked, place=0) is None
