"""What the end of a request says of a version."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xlmr.errors import (
    BudgetError,
    DeadlineError,
    EngineError,
    InputError,
    NonFiniteError,
    OverloadedError,
    QuotaError,
    TaskError,
    UnavailableError,
)
from xlmr.serving.dataplane import ClassifyOptions, Outcome, Question
from xlmr.serving.routing.agreement import agree
from xlmr.serving.routing.seen import fault_events, seen_of
from xlmr.serving.routing.tally import Seen
from xlmr.types import (
    Accounting,
    Classification,
    Embedding,
    Entity,
    Filling,
    LabelScore,
    Language,
    Ranked,
    SpanAnswer,
    Tagging,
)

SPENT = Accounting(3, 3, False, 1, 0)


@pytest.mark.parametrize(
    ("error", "events"),
    [
        (EngineError("x"), ("5xx",)),
        (NonFiniteError("x"), ("5xx", "non_finite")),
        (UnavailableError("x", reason="engine"), ("5xx",)),
        (DeadlineError("x"), ("timeout",)),
        (OverloadedError("x"), ("timeout",)),
        (UnavailableError("x", reason="queue_full"), ("timeout",)),
        (UnavailableError("x", reason="draining"), None),
        (UnavailableError("x", reason="reading"), None),
        (UnavailableError("x", reason="loading"), None),
        (QuotaError("x"), None),
        (BudgetError("x"), None),
        (InputError("x"), None),
        (TaskError("x"), None),
    ],
)
def test_whose_fault_it_is(error, events) -> None:
    assert fault_events(error.code, error) == events


def test_a_fault_nobody_raised_on_purpose_is_the_versions_and_a_hang_up_is_not() -> None:
    assert fault_events("internal", None) == ("5xx",)
    assert fault_events("client_gone", None) is None
    assert fault_events("ok", None) == ()


def labels(*names: str, score: float = 0.9, **fields: Any) -> Classification:
    ranked = tuple(LabelScore(name, score) for name in names)
    return Classification(ranked, SPENT, **({"entropy": 0.1} | fields))


def seen(counting, *outcomes: Outcome, task: str = "classify", seconds=None, events=(), **knobs):
    question = Question(id="r", task=task, items=("a b", "c"), options=ClassifyOptions())
    return seen_of(
        question,
        outcomes,
        events,
        counting=counting(**knobs),
        seconds=seconds,
        identify=lambda texts: [Language("sw" if texts == ["a b"] else "de", 1.0)],
    )


def test_the_first_text_that_was_answered_speaks_for_all(counting) -> None:
    refused = Outcome(error=InputError("x"))
    first = Outcome(labels("a", abstained=True), Language("de", 1.0))
    second = Outcome(labels("b", score=0.1), Language("fr", 1.0))
    found = seen(counting, refused, first, second, low_confidence_below=0.5)
    assert found == Seen("de", ("abstention",), "a")
    assert seen(counting, second, low_confidence_below=0.5).events == ("low_confidence",)
    assert seen(counting, Outcome(labels("a"), Language("xx", 1.0))).language == "other"


def test_without_an_answer_the_first_text_tells_the_language(counting) -> None:
    assert seen(counting, events=("5xx",)) == Seen("sw", ("5xx",))


def test_labels_are_counted_where_they_are_the_models_own(counting) -> None:
    here = Language("de", 1.0)
    assert seen(counting, Outcome(labels("my secret"), here), task="zero_shot").label is None
    value = labels("stars", entropy=None)
    assert seen(counting, Outcome(value, here)).label is None
    vector = Embedding(np.ones(3, np.float32), SPENT)
    assert seen(counting, Outcome(vector, here), task="embed") == Seen("de")


@pytest.mark.parametrize(
    ("seconds", "over"), [(0.101, True), (0.1, False), (0.099, False), (None, False)]
)
def test_the_objective(counting, seconds, over) -> None:
    found = seen(counting, events=("5xx",), seconds=seconds, objective_ms=100.0)
    assert found.events == (("5xx", "over_objective") if over else ("5xx",))


def vector(*numbers: float) -> Embedding:
    return Embedding(np.array(numbers, np.float32), SPENT)


def tags(*spans: tuple[str, int, int], score: float = 0.5) -> Tagging:
    return Tagging(tuple(Entity(label, a, b, "", score) for label, a, b in spans), SPENT)


def span(start: int, score: float = 0.5) -> SpanAnswer:
    return SpanAnswer("x", start, start + 1, score, 0.1, SPENT)


def ranked(*scores: float) -> list[Ranked]:
    return [Ranked(n, score, SPENT) for n, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ([labels("a", "b")], [labels("a", "c", score=0.2)], True),
        ([labels("a", "b")], [labels("b", "a")], False),
        ([labels("a"), labels("a")], [labels("a"), labels("b")], True),
        ([labels("a", "b", chosen=("a", "b"))], [labels("b", "a", chosen=("b", "a"))], True),
        ([labels("a", "b", chosen=())], [labels("a", "b", chosen=("a",))], False),
        ([labels("v", score=3.0, entropy=None)], [labels("v", score=3.1, entropy=None)], True),
        ([labels("v", score=3.0, entropy=None)], [labels("v", score=3.5, entropy=None)], False),
        ([vector(1.0, 0.0)], [vector(2.0, 0.1)], True),
        ([vector(1.0, 0.0)], [vector(1.0, 0.2)], False),
        ([vector(1.0, 0.0)], [vector(1.0, 0.0, 0.0)], False),
        ([vector(0.0)], [vector(0.0)], True),
        ([tags(("P", 0, 2))], [tags(("P", 0, 2), score=0.9)], True),
        ([tags(("P", 0, 2))], [tags(("P", 0, 3))], False),
        ([span(2)], [span(2, 0.9)], True),
        ([span(2)], [span(3)], False),
        (ranked(0.1, 0.9), ranked(0.2, 0.3), True),
        (ranked(0.1, 0.9), ranked(0.4, 0.3), False),
        (
            [Filling(((LabelScore("a", 0.5),), ()), SPENT)],
            [Filling(((LabelScore("a", 0.9),), ()), SPENT)],
            True,
        ),
        (
            [Filling(((LabelScore("a", 0.5),),), SPENT)],
            [Filling(((LabelScore("b", 0.5),),), SPENT)],
            False,
        ),
        ([], [], None),
        ([labels()], [labels("a")], None),
        ([span(2)], [labels("a")], None),
    ],
)
def test_whether_two_versions_say_the_same(one, other, same) -> None:
    assert agree(one, other) is same
    assert agree(other, one) is same
