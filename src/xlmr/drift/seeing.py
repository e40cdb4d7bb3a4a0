"""An answer as the numbers that are counted of it. Pure."""

from __future__ import annotations

from typing import Any

from xlmr.drift.signals import Sight
from xlmr.telemetry.certainty import confidence, entropy
from xlmr.types import Classification

# Characters, from the beginning: a text is written alike to its end.
_READ = 1000


def sight_of(answer: Any, characters: int, text: str = "") -> Sight:
    """What is counted of one answered text.

    Args:
        answer: of any task.
        characters: of the text; of a pair, of both.
        text: of which only the width of its letters is counted; empty where there is none to read.
    """
    accounting = answer.accounting
    read = text[:_READ]
    # A value, or nothing at all, is no label.
    chosen = isinstance(answer, Classification) and answer.entropy is not None and answer.labels
    return Sight(
        tokens=accounting.total_tokens,
        characters=characters,
        unknown=accounting.unknown,
        truncated=accounting.truncated,
        label=answer.label if chosen else None,
        confidence=confidence(answer),
        entropy=entropy(answer),
        abstained=getattr(answer, "abstained", None),
        bytes_per_character=(
            len(read.encode("utf-8", "surrogatepass")) / len(read) if read else None
        ),
    )
