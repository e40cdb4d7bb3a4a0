"""What is no number never leaves the server."""

from __future__ import annotations

import numpy as np
import pytest

from xlmr.errors import NonFiniteError
from xlmr.serving.finite import require_finite, require_finite_vectors
from xlmr.types import (
    Accounting,
    Classification,
    Embedding,
    Entity,
    Filling,
    Hidden,
    LabelScore,
    Ranked,
    SpanAnswer,
    Tagging,
)

SPENT = Accounting(3, 3, False, 1, 0)
WRONG = (float("nan"), float("inf"), float("-inf"))


def answers_with(number: float) -> list[object]:
    """One of each kind that says it."""
    return [
        Classification((LabelScore("a", 0.5), LabelScore("b", number)), SPENT),
        Tagging((Entity("P", 0, 1, "x", number),), SPENT),
        SpanAnswer("", 0, 0, number, 0.1, SPENT),
        SpanAnswer("", 0, 0, 0.1, number, SPENT),
        Embedding(np.array([0.0, number], np.float32), SPENT),
        Embedding(np.array([[0.0, 1.0], [number, 1.0]], np.float32), SPENT),
        Ranked(0, number, SPENT),
        Filling(((), (LabelScore("a", number),)), SPENT),
    ]


@pytest.mark.parametrize("number", WRONG)
def test_every_answer_that_says_what_is_no_number_is_refused(number: float) -> None:
    for answer in answers_with(number):
        with pytest.raises(NonFiniteError):
            require_finite([answers_with(0.5)[0], answer])


def test_numbers_pass() -> None:
    for number in (0.0, -3.5, 1e6):
        require_finite(answers_with(number))
        require_finite_vectors([np.full((4, 3), number, np.float32)])
    require_finite([])
    require_finite_vectors([np.zeros((0, 3), np.float32)])


@pytest.mark.parametrize("number", WRONG)
def test_vectors_that_hold_what_is_no_number_are_refused(number: float) -> None:
    wrong = np.ones((4, 3), np.float32)
    wrong[2, 1] = number
    with pytest.raises(NonFiniteError):
        require_finite_vectors([np.ones((4, 3), np.float32), wrong])


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/classify", {"model": "router", "input": "hello"}, 500),
        ("/v1/embeddings", {"model": "sentences", "input": ["hello", "world"]}, 500),
        ("/embed", {"inputs": "hello"}, 424),
    ],
)
def test_doors_answer_with_an_error_that_says_so(house_of, path, body, status) -> None:
    class NoNumbers:
        def __init__(self, runtime) -> None:
            self.inner = runtime

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def run(self, batch, *, rows="all"):
            hidden = self.inner.run(batch, rows=rows)
            return Hidden(hidden.hidden_TD * np.float32("nan"), hidden.starts)

    with house_of("router", "sentences") as house:
        house.gated.inner = NoNumbers(house.gated.inner)
        reply = house.client.post(path, json=body)
        assert reply.status_code == status
        assert "no number" in reply.text
        assert "nan" not in reply.text.lower()
        assert house.log.records[-1].code == "non_finite"
