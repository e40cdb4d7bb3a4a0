"""An answered question as what is kept and what is counted of it.

Nothing here is a caller's word: no label of a zero-shot request, no entity, no span, no candidate
for a mask, and no language that only the caller has heard of. A text goes on where the policy keeps
it, to the thread that redacts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from xlmr.drift.seeing import sight_of
from xlmr.feedback.record import Hasher, Record, likeliest
from xlmr.serving.preparation import Item, joined, size_of
from xlmr.serving.question import Outcome, prediction_id
from xlmr.telemetry.certainty import confidence
from xlmr.telemetry.table import LANGUAGES
from xlmr.types import Classification

if TYPE_CHECKING:
    from xlmr.feedback.policy import Policy
    from xlmr.serving.observing.observer import Told
    from xlmr.serving.observing.sights import SightBook

# A longer one is not kept: its end, cut off, could be half of a number that is hidden when whole.
MOST_TEXT_CHARS = 10_000


def recording(
    put: Callable[[Record], None], *, hasher: Hasher, policy: Policy
) -> Callable[[Told], None]:
    """What makes records of questions and puts them on their way."""

    def take(told: Told) -> None:
        for record in records_of(told, hasher=hasher, policy=policy):
            put(record)

    return take


def seeing(book: SightBook) -> Callable[[Told], None]:
    """What has a book count the texts of questions."""

    def take(told: Told) -> None:
        question, model = told.question, told.answered.model
        labels = told.served.predictor.bundle.labels if question.task == "classify" else ()
        for item, outcome in zip(question.items, told.answered.outcomes, strict=True):
            if outcome.answer is not None:
                characters, text = (0, "") if _is_token_ids(item) else (size_of(item), joined(item))
                sight = sight_of(outcome.answer, characters, text)
                language = language_of(outcome)
                book.see(model.name, model.version, question.task, labels, language, sight)

    return take


def records_of(told: Told, *, hasher: Hasher, policy: Policy) -> Iterator[Record]:
    """One record for each text that was answered."""
    question, answered = told.question, told.answered
    subject = hasher.person(question.subject) if question.subject else ""
    for place, outcome in enumerate(answered.outcomes):
        answer = outcome.answer
        if answer is None:
            continue
        item = question.items[place]
        id, language, text = prediction_id(answered, place), language_of(outcome), joined(item)
        kept = (
            not _is_token_ids(item)
            and len(text) <= MOST_TEXT_CHARS
            and policy.keeps_text(id, language)
        )
        label, probabilities = _promised(question.task, answer)
        yield Record(
            id=id,
            at=told.at,
            model=answered.model.name,
            version=answered.model.version,
            task=question.task,
            language=language,
            tokens=answer.accounting.tokens,
            label=label,
            probabilities=probabilities,
            confidence=confidence(answer),
            abstained=getattr(answer, "abstained", None),
            latency_ms=told.seconds * 1000.0,
            fingerprint=hasher.fingerprint(text),
            subject=subject,
            text=text if kept else "",
            retention=policy.retention,
        )


def language_of(outcome: Outcome) -> str:
    """What an answered text counts as: what its scores were calibrated for, else as identified."""
    said = getattr(outcome.answer, "language", None)
    if said in LANGUAGES:
        return str(said)
    return outcome.language.code if outcome.language is not None else "und"


def _promised(task: str, answer: Any) -> tuple[str, Mapping[str, float]]:
    """Label and probabilities, of a model that promises labels and gives probabilities.

    Where several labels may hold at once there is no one label.
    """
    if task != "classify" or not isinstance(answer, Classification) or answer.entropy is None:
        return "", {}
    probabilities = likeliest({one.label: one.score for one in answer.labels})
    return (answer.label if answer.chosen is None and answer.labels else ""), probabilities


def _is_token_ids(item: Item) -> bool:
    """Whether it is a text in a spelling that no redactor reads."""
    return not isinstance(item, str) and bool(item) and isinstance(item[0], int)
