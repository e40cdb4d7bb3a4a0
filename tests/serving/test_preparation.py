"""Items of every kind become encodings, each fault where it belongs."""

from __future__ import annotations

import pytest
from tests.tiny import tiny_model

from xlmr.errors import InputError, TooLongError
from xlmr.model.predictor import Predictor, load
from xlmr.model.prepared import (
    AnswerOptions,
    ClassifyOptions,
    EmbedOptions,
    FillOptions,
    RerankOptions,
    TagOptions,
    ZeroShotOptions,
    compute,
)
from xlmr.serving.preparation import (
    MOST_MASKS,
    MOST_READINGS,
    check_options,
    joined,
    prepare,
    reading_size,
    size_of,
)


@pytest.fixture(scope="module")
def predictor_of(tmp_path_factory):
    made: dict[str, Predictor] = {}
    root = tmp_path_factory.mktemp("models")

    def make(kind: str) -> Predictor:
        if kind not in made:
            made[kind] = load(tiny_model(root, kind), runtime="reference")
        return made[kind]

    yield make
    for predictor in made.values():
        predictor.close()


def prepared(predictor, task, items, options):
    faults = [None] * len(items)
    return prepare(predictor, task, items, options, faults), faults


def answers(predictor, parts):
    return [
        answer
        for part in parts
        for answer in part.finish(list(compute(part.prepared, predictor.runtime)))
    ]


@pytest.mark.parametrize(
    ("task", "item", "options"),
    [
        ("classify", "hello", ClassifyOptions()),
        ("classify", ("hello", "world"), ClassifyOptions()),
        ("tag", "anna lives", TagOptions()),
        ("tag", ["anna", "lives"], TagOptions()),
        ("tag", [], TagOptions()),
        ("answer", ("where", "in paris"), AnswerOptions()),
        ("embed", "hello", EmbedOptions()),
        ("embed", [0, 5, 6, 2], EmbedOptions()),
        ("embed", [], EmbedOptions()),
        ("rerank", "hello", RerankOptions(query="where")),
        ("zero_shot", "hello", ZeroShotOptions(labels=["a"])),
        ("fill", "<mask>", FillOptions()),
    ],
)
def test_every_kind_of_item_is_read(predictor_of, task, item, options):
    predictor = predictor_of(task)
    [part], faults = prepared(predictor, task, [item], options)
    assert faults == [None]
    assert part.places == (0,)
    assert len(answers(predictor, [part])) == len(part.texts) == 1


@pytest.mark.parametrize(
    ("task", "good", "bad", "options", "path"),
    [
        ("classify", ("a", "b"), ("a", "\ud800"), ClassifyOptions(), "$[1][1]"),
        ("tag", ["anna"], ["\ud800"], TagOptions(), "$[1]"),
        ("answer", ("a", "b"), ("\ud800", "b"), AnswerOptions(), "$[1][0]"),
        ("embed", [5], [5, -1], EmbedOptions(), "$[1][1]"),
        ("rerank", "a", "\ud800", RerankOptions(query="q"), "$[1]"),
        ("fill", "<mask>", "no mask", FillOptions(), "$[1]"),
    ],
)
def test_one_bad_item_is_set_aside(predictor_of, task, good, bad, options, path):
    predictor = predictor_of(task)
    parts, faults = prepared(predictor, task, [good, bad, good], options)
    assert [place for part in parts for place in part.places] == [0, 2]
    assert (faults[0], faults[2]) == (None, None)
    assert faults[1].path == path
    assert len(answers(predictor, parts)) == 2


@pytest.mark.parametrize(
    ("task", "options", "path"),
    [
        ("rerank", RerankOptions(query="\ud800"), "$.query"),
        ("zero_shot", ZeroShotOptions(labels=["a", "\ud800"]), "$.labels[1]"),
        ("classify", ClassifyOptions(languages=["de"]), "$.languages"),
    ],
)
def test_a_fault_of_the_options_is_nobodys_but_the_requests(predictor_of, task, options, path):
    with pytest.raises(InputError) as refusal:
        prepared(predictor_of(task), task, ["a", "b"], options)
    assert refusal.value.path == path


def test_ranked_documents_are_given_in_the_order_of_their_places(predictor_of):
    predictor = predictor_of("rerank")
    documents = ["hello", "world", "where is my parcel", "paris"]
    [part], _ = prepared(predictor, "rerank", documents, RerankOptions(query="parcel"))
    found = answers(predictor, [part])
    ranked = predictor.rerank("parcel", documents)
    assert [one.index for one in ranked] != [0, 1, 2, 3]
    assert [one.index for one in found] == [0, 1, 2, 3]
    assert sorted(found, key=lambda one: -one.score) == ranked


def test_languages_go_with_their_texts(predictor_of):
    predictor = predictor_of("classify")
    options = ClassifyOptions(languages=["aa", "bb", "cc"])
    parts, _ = prepared(predictor, "classify", ["x", "\ud800", "y"], options)
    assert [answer.language for answer in answers(predictor, parts)] == ["aa", "cc"]


def test_too_many_masks_are_refused_before_they_cost_anything(predictor_of):
    predictor = predictor_of("fill")
    parts, _ = prepared(predictor, "fill", ["<mask>"] * MOST_MASKS, FillOptions())
    assert len(parts[0].places) == MOST_MASKS
    with pytest.raises(InputError, match=f"{MOST_MASKS + 1} masks"):
        prepared(predictor, "fill", ["<mask>"] * (MOST_MASKS + 1), FillOptions())


@pytest.mark.parametrize(
    ("item", "size"),
    [("hello", 5), (("ab", "cde"), 5), (["ab", "cde"], 5), ([7, 8, 9], 3), ([], 0), ("", 0)],
)
def test_the_size_of_an_item_is_that_of_all_its_texts(item, size):
    assert size_of(item) == size


def test_what_is_read_several_times_counts_several_times():
    assert reading_size(["abc", "de"], EmbedOptions()) == 5
    assert reading_size(["abc", "de"], RerankOptions(query="1234")) == 5 + 8
    labels = ZeroShotOptions(labels=["x", "yy"], template="is {}")
    assert reading_size(["abc"], labels) == 3 + 3 + 2 * 5
    with pytest.raises(InputError) as refusal:
        reading_size(["a", "b"], ZeroShotOptions(labels=["x"] * (MOST_READINGS // 2 + 1)))
    assert refusal.value.path == "$.labels"
    reading_size(["a", "b"], ZeroShotOptions(labels=["x"] * (MOST_READINGS // 2)))


def test_a_query_is_no_longer_than_a_text_may_be():
    check_options(RerankOptions(query="abc"), 3)
    with pytest.raises(TooLongError) as refusal:
        check_options(RerankOptions(query="abcd"), 3)
    assert refusal.value.path == "$.query"


def test_items_are_joined_as_they_are_read():
    assert joined("a") == "a"
    assert joined(("a", "b")) == "a\nb"
    assert joined(["a", "b"]) == "a b"
    assert joined([1, 2]) == "1 2"
