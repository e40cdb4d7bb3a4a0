"""What people and outcomes say of a prediction, and what holds where they disagree. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from xlmr.errors import InputError

Source = Literal["user", "annotator", "outcome"]
Conflict = Literal["last", "priority", "majority"]
SOURCES: tuple[Source, ...] = get_args(Source)
CONFLICTS: tuple[Conflict, ...] = get_args(Conflict)
# Whose word counts more: who is paid to look, then what happened, then who clicked.
_RANK = {"annotator": 2, "outcome": 1, "user": 0}
_LONGEST_ID, _LONGEST_LABEL = 200, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """One statement on one prediction.

    Attributes:
        prediction: its id; it need not be known yet.
        label: the right one: the predicted one confirms, another corrects.
        who: keyed hash of who says so; empty for nobody in particular.
        source: `user`, `annotator`, or `outcome` (what happened later showed it).
        said_us: when it was said, in microseconds since 1970 UTC; 0 for when it arrived.
        known_us: when it arrived; 0 until it has.
    """

    prediction: str
    label: str
    who: str = ""
    source: Source = "user"
    said_us: int = 0
    known_us: int = 0

    @property
    def key(self) -> str:
        """The same for the same statement, however often it is sent."""
        parts = (self.prediction, self.label, self.who, self.source, str(self.said_us))
        data = "\x1f".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Settled:
    """What holds of a prediction.

    Attributes:
        label: the right one.
        source: of the best of those who say so.
        votes: how many say so.
        contested: whether somebody's last word was another label.
    """

    label: str
    source: Source
    votes: int
    contested: bool


def check(feedback: Feedback) -> Feedback:
    """The same.

    Raises:
        InputError: a field that cannot be used.
    """
    for name, most in (("prediction", _LONGEST_ID), ("label", _LONGEST_LABEL)):
        said = getattr(feedback, name)
        if not said or len(said) > most:
            raise InputError(f"expected 1 to {most} characters", path=f"$.{name}")
    if feedback.source not in SOURCES:
        raise InputError(f"expected one of {', '.join(SOURCES)}", path="$.source")
    if feedback.said_us < 0:
        raise InputError("expected a time since 1970", path="$.at")
    return feedback


def settle(said: Iterable[Feedback], conflict: Conflict) -> Settled | None:
    """What holds of one prediction; None where nobody has said anything.

    Of each person only the last word counts, and of those who gave no name each word.

    Args:
        said: about one prediction, in any order.
        conflict: `last`: whoever spoke last. `priority`: an annotator before an outcome before a
            user; among equals the last. `majority`: the most voices; among equals by priority.
    """
    words = _last_words(said)
    if not words:
        return None
    if conflict == "last":
        best = max(words, key=_when)
    elif conflict == "priority":
        best = max(words, key=_weight)
    else:
        voices = Counter(word.label for word in words)
        best = max(words, key=lambda word: (voices[word.label], _weight(word)))
    agreeing = [word for word in words if word.label == best.label]
    source = max(agreeing, key=_weight).source
    return Settled(best.label, source, len(agreeing), len(agreeing) < len(words))


def _last_words(said: Iterable[Feedback]) -> list[Feedback]:
    words: dict[tuple[str, ...], Feedback] = {}
    for feedback in sorted(said, key=_when):
        nobody = (feedback.key,) if not feedback.who else ()
        words[(feedback.who, feedback.source, *nobody)] = feedback
    return list(words.values())


def _when(feedback: Feedback) -> tuple[int, int, str]:
    return feedback.said_us, feedback.known_us, feedback.key


def _weight(feedback: Feedback) -> tuple[int, tuple[int, int, str]]:
    return _RANK[feedback.source], _when(feedback)
