"""Where an error stands in the caller's body, and when it is the whole request's."""

from __future__ import annotations

import pytest

from xlmr.errors import InputError, TooLongError
from xlmr.serving.dataplane import EmbedOptions, Question
from xlmr.serving.question import placed, refuse_whole


def question(**fields) -> Question:
    return Question(id="r1", task="embed", items=["a", "b", "c"], options=EmbedOptions(), **fields)


@pytest.mark.parametrize(
    ("path", "fields", "expected"),
    [
        ("$", {}, "$.input"),
        ("$[3]", {}, "$.input[3]"),
        ("$[3][1]", {"path": "$.texts"}, "$.texts[3][1]"),
        ("$[0]", {"listed": False}, "$.input"),
        ("$[0][1]", {"listed": False}, "$.input[1]"),
        ("$.labels[2]", {"listed": False}, "$.labels[2]"),
        ("$.query", {}, "$.query"),
        ("$[12]", {"locate": lambda place, part: f"$.there[{place + 1}]{part}"}, "$.there[13]"),
        ("$[1][0]", {"locate": lambda place, part: f"$.{place}{part}"}, "$.1[0]"),
    ],
)
def test_a_path_starts_where_the_texts_stand(path, fields, expected):
    error = TooLongError("no", path=path, hint="shorten it")
    moved = placed(error, question(**fields))
    assert (type(moved), moved.path) == (TooLongError, expected)
    assert (moved.message, moved.hint) == ("no", "shorten it")


FAULT = InputError("bad", path="$[1]")


@pytest.mark.parametrize(
    ("faults", "fields", "refused"),
    [
        ([None, None, None], {}, False),
        ([None, FAULT, None], {}, False),
        ([None, FAULT, None], {"partial": False}, True),
        ([FAULT, FAULT, FAULT], {}, True),
        ([FAULT, None, None], {"needs_first": True}, True),
        ([None, FAULT, None], {"needs_first": True}, False),
        ([None, FAULT, FAULT], {"needs_first": True}, True),
    ],
)
def test_a_request_is_refused_where_nothing_of_use_is_left(faults, fields, refused):
    if refused:
        with pytest.raises(InputError, match="bad"):
            refuse_whole(question(**fields), faults)
    else:
        refuse_whole(question(**fields), faults)
