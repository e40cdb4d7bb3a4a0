"""The queue between answers and whoever looks back at them: bounded, and never waited for."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from xlmr.model.prepared import ClassifyOptions
from xlmr.serving.observing.observer import Observer
from xlmr.serving.question import Answered, Question
from xlmr.serving.tokens import TokenizeOptions
from xlmr.types import ModelRef


def life(*items: str, **odd: Any) -> Any:
    options = odd.pop("options", ClassifyOptions())
    question = Question(id="q", task="classify", items=items, options=options)
    answered = Answered("q", ModelRef("router", "00", "3"), (), 0)
    return SimpleNamespace(question=question, answered=answered, served=object(), **odd)


@pytest.fixture
def held():
    """An observer whose taker waits for `go`; what it took, and how many were dropped."""
    go, took, dropped = threading.Event(), [], []

    def take(told):
        assert go.wait(20)
        took.append(told)

    made = []

    def make(**limits):
        observer = Observer([take], on_drop=dropped.append, clock=lambda: 7.0, **limits)
        made.append(observer)
        return observer

    yield SimpleNamespace(make=make, go=go, took=took, dropped=dropped)
    go.set()
    for observer in made:
        observer.close(20)


def busy(observer):
    """Until the thread has taken what waits, and stands still over it."""
    observer._outbox._hurry.set()
    until = time.monotonic() + 20
    while observer._outbox.waiting:
        assert time.monotonic() < until
        time.sleep(0.001)


def test_what_was_answered_is_taken_with_its_time(held):
    observer = held.make()
    held.go.set()
    observer.tell(life("hello"), 0.25)
    observer.flush(20)
    (told,) = held.took
    assert (told.question.items, told.at, told.seconds) == (("hello",), 7.0, 0.25)


def test_what_is_no_answer_of_a_model_is_not_taken(held):
    observer = held.make()
    held.go.set()
    unanswered, unserved = life("a"), life("b")
    unanswered.answered, unserved.served = None, None
    for one in (unanswered, unserved, life("c", options=TokenizeOptions())):
        observer.tell(one, 0.0)
    observer.flush(20)
    assert held.took == held.dropped == []


def test_beyond_so_many_questions_texts_are_dropped_and_counted(held):
    observer = held.make(most_waiting=2)
    observer.tell(life("first"), 0.0)
    busy(observer)
    for _ in range(4):
        observer.tell(life("one", "two"), 0.0)
    assert held.dropped == [2, 2]
    held.go.set()
    observer.close(20)
    assert len(held.took) == 3


def test_large_texts_cannot_fill_the_memory(held):
    observer = held.make(most_waiting_chars=100_000)
    observer.tell(life("x" * 90_000), 0.0)
    busy(observer)  # what is being taken apart still holds its room
    observer.tell(life("y" * 9_000), 0.0)
    assert held.dropped == [1]
    held.go.set()
    observer.flush(20)
    observer.tell(life("y" * 90_000), 0.0)
    assert held.dropped == [1]
    observer.close(20)
    assert len(held.took) == 2


def test_the_end_waits_for_what_was_told_but_not_for_ever(held):
    observer = held.make()
    observer.tell(life("hello"), 0.0)
    busy(observer)
    observer.close(0.01)
    held.go.set()
    observer.close(20)
    assert len(held.took) == 1
