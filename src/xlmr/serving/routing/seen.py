"""What the end of a request says of the version that answered it. Pure.

A request is one unit, however many texts it holds: the first text that was answered speaks for its
language, its label and its doubts; where none was, the first. What goes wrong goes wrong for all.

What a version was never asked, or refused for the caller's own sake, is no unit: bad input, quotas,
a server on its way down, a client that hung up. What its own queue had no time or room for is one,
and a `timeout`: a version that is slower is refused more, and left out it would look good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from xlmr.errors import (
    BudgetError,
    DeadlineError,
    EngineError,
    NonFiniteError,
    OverloadedError,
    QuotaError,
    UnavailableError,
    XlmrError,
)
from xlmr.serving.preparation import joined
from xlmr.serving.routing.tally import Seen
from xlmr.telemetry.certainty import confidence
from xlmr.telemetry.metrics import bounded_language
from xlmr.types import Classification

if TYPE_CHECKING:
    from xlmr.registry.rollout.routing import Counting
    from xlmr.serving.question import Outcome, Question
    from xlmr.types import Language

Identify = Callable[[Sequence[str]], "Sequence[Language]"]

# What the queue and the engine of a version say where it was refused: to the event that it is.
_REFUSALS = {"queue_full": "timeout", "engine": "5xx"}


def fault_events(code: str, error: XlmrError | None) -> tuple[str, ...] | None:
    """The events of a request that ended with a code; None where it says nothing of a version."""
    if code == "ok":
        return ()
    if isinstance(error, NonFiniteError):
        return ("5xx", "non_finite")
    if isinstance(error, EngineError) or (error is None and code == "internal"):
        # A text that no batch holds is the caller's.
        return None if isinstance(error, BudgetError) else ("5xx",)
    if isinstance(error, DeadlineError | OverloadedError):
        return ("timeout",)
    if isinstance(error, UnavailableError) and not isinstance(error, QuotaError):
        event = _REFUSALS.get(error.reason)
        return None if event is None else (event,)
    return None


def seen_of(
    question: Question,
    outcomes: Sequence[Outcome],
    events: tuple[str, ...],
    *,
    counting: Counting,
    seconds: float | None,
    identify: Identify,
) -> Seen:
    """What is counted of a request.

    Args:
        outcomes: none where it was not answered.
        events: as `fault_events` gave them.
        seconds: what is held against the objective; None where that would be unfair.
        identify: tells the language where no answer does.
    """
    limit_ms = counting.objective_ms
    if seconds is not None and limit_ms is not None and seconds * 1000.0 > limit_ms:
        events = (*events, "over_objective")
    first = next((outcome for outcome in outcomes if outcome.answer is not None), None)
    if first is None:
        (language,) = identify([joined(question.items[0])])
        return Seen(bounded_language(language.code), events)
    if getattr(first.answer, "abstained", None):
        events = (*events, "abstention")
    sure = confidence(first.answer)
    if sure is not None and sure < counting.low_confidence_below:
        events = (*events, "low_confidence")
    code = first.language.code if first.language is not None else "und"
    return Seen(bounded_language(code), events, _label(question.task, first.answer))


def _label(task: str, answer: Any) -> str | None:
    """The likeliest label. Those of zero-shot are the caller's own words, which are never kept."""
    if task == "classify" and isinstance(answer, Classification) and answer.entropy is not None:
        return answer.label
    return None
