"""Before a request is tokenised: what its characters will come to at least, as far as is known."""

from __future__ import annotations

import pytest

from xlmr.model.prepared import ClassifyOptions, RerankOptions, ZeroShotOptions
from xlmr.serving.outlook import Outlook
from xlmr.serving.question import Question


def question(*items: object, options: object = None) -> Question:
    return Question(id="r", task="classify", items=items, options=options or ClassifyOptions())


def taught(tokens_of_a_hundred: int, **options) -> Outlook:
    outlook = Outlook()
    for _ in range(200):
        outlook.learn(outlook.least(question("x" * 100, **options), [0]), tokens_of_a_hundred)
    return outlook


def test_nothing_is_promised_of_what_was_never_seen():
    least = Outlook().least(question("x" * 1000), [0])
    assert (least.load.tokens, least.load.squares, least.load.texts) == (0, 0, 1)
    windows = question("x" * 100, options=ClassifyOptions(long="window"))
    assert taught(25).least(windows, [0]).load.tokens == 0


def test_a_large_request_is_bounded_by_half_of_the_least_ever_seen():
    least = taught(25).least(question(*["x" * 400] * 32), range(32))
    assert least.load.tokens == pytest.approx(32 * 400 * 0.25 / 2)
    assert least.load.squares == pytest.approx(32 * 50**2)
    assert least.load.texts == 32


def test_a_small_request_is_guessed_since_being_wrong_costs_little():
    assert taught(25).least(question("x" * 100), [0]).load.tokens == pytest.approx(25)
    assert taught(25).least(question("x" * 500), [0]).load.tokens == pytest.approx(64)


def test_what_may_be_cut_off_is_not_counted():
    outlook = taught(25)
    long, longer = (outlook.least(question("x" * size), [0]) for size in (600, 1_000_000))
    assert long == longer


def test_only_the_texts_that_are_to_be_computed_count():
    least = taught(25).least(question("x" * 100, "y" * 200, "z" * 100), [1])
    assert least.characters == 200


def test_labels_and_queries_are_read_with_every_text():
    outlook = Outlook()
    labels = question("x" * 100, options=ZeroShotOptions(labels=["a", "b", "c"]))
    assert outlook.least(labels, [0]).characters == 300
    query = question("x" * 100, "y" * 100, options=RerankOptions(query="q" * 50))
    assert outlook.least(query, [0, 1]).characters == 300
    assert outlook.least(labels, [0]).load.texts == 3


def test_a_request_without_characters_teaches_nothing():
    outlook = taught(25)
    outlook.learn(outlook.least(question(""), [0]), 2)
    assert outlook.least(question("x" * 100), [0]).load.tokens == pytest.approx(25)
