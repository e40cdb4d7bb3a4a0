"""What a door asks of the data plane, and what it gets."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from xlmr.errors import InputError, XlmrError
from xlmr.model.prepared import Options
from xlmr.serving.preparation import Item, moved
from xlmr.serving.tokens import DetokenizeOptions, TokenizeOptions
from xlmr.telemetry.traces import Trace
from xlmr.types import Caller, Language, ModelRef

ANONYMOUS = Caller()

# The place of an error in one item: `$[3]`, `$[3][1]`.
_IN_ITEM = re.compile(r"\$\[(\d+)\](.*)")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a door asks. `options` is the task's options value, re-exported here for the doors.

    Attributes:
        id: the request's id, for the log.
        path: where the texts stand in the caller's body; a single text stands there itself.
        listed: whether `path` is a list.
        partial: whether one text's error may stand beside the others' answers.
        needs_first: whether no answer is of use without that to the first text.
        locate: where an item, and a part of it (`[1]`, mostly empty), stands in the caller's body,
            if that is not `path`, indexed where it is `listed`.
        deadline: until when an answer is of use, on `time.monotonic`'s clock; None for no limit.
        priority: 0 before 1 before 2.
        door: which contract it came by.
        subject: whom the texts are from, as the caller calls them, so that what is kept of them can
            be erased; empty where nobody said.
        arrived: when its first byte was here, on `time.perf_counter`'s clock; 0 for now.
        trace: its place in a trace; None where it is in none.
    """

    id: str
    task: str
    items: Sequence[Item]
    options: Options | TokenizeOptions | DetokenizeOptions
    model: str | None = None
    path: str = "$.input"
    listed: bool = True
    partial: bool = True
    needs_first: bool = False
    locate: Callable[[int, str], str] | None = None
    caller: Caller = ANONYMOUS
    deadline: float | None = None
    priority: int = 1
    door: str = ""
    subject: str = ""
    arrived: float = 0.0
    trace: Trace | None = None

    def replace(self, **changed: Any) -> Question:
        """The same question, otherwise in some fields."""
        return msgspec.structs.replace(self, **changed)


class Outcome(msgspec.Struct, frozen=True):
    """What became of one text: an answer and its language, or the error that is its own."""

    answer: Any = None
    language: Language | None = None
    error: XlmrError | None = None


class Timing(msgspec.Struct, frozen=True):
    """Where the time of a request went, in seconds."""

    tokenise_s: float = 0.0
    queue_s: float = 0.0
    infer_s: float = 0.0
    total_s: float = 0.0


class Answered(msgspec.Struct, frozen=True):
    """Which model answered, one outcome per text, the tokens it computed, and how long it took."""

    id: str
    model: ModelRef
    outcomes: tuple[Outcome, ...]
    tokens: int
    timing: Timing = Timing()


def prediction_id(answered: Answered | Question, place: int) -> str:
    """By which a prediction can be named later, in feedback for one."""
    return f"{answered.id}-{place}"


def refuse_whole(question: Question, faults: list[InputError | None]) -> None:
    """Refuses a request of which nothing can be answered, or not what is needed.

    Args:
        question: says what is needed.
        faults: one entry per item, None where there is none.

    Raises:
        InputError: the first fault that decides.
    """
    refused = [fault for fault in faults if fault is not None]
    if not refused:
        return
    answers = faults[1:] if question.needs_first else faults
    if None not in answers or not question.partial:
        raise refused[0]
    if question.needs_first and faults[0] is not None:
        raise faults[0]


def placed(error: InputError, question: Question) -> InputError:
    """The error with its path in the caller's body: `$[3]` becomes `$.input[3]`."""
    if error.path == "$":
        return moved(error, question.path)
    found = _IN_ITEM.fullmatch(error.path)
    if found is None:
        return error
    place, part = int(found[1]), found[2]
    if question.locate is not None:
        return moved(error, question.locate(place, part))
    return moved(error, question.path + (f"[{place}]" if question.listed else "") + part)
