"""Who may ask how much. Thin: counts and lengths, checked before any work is done.

A request that breaks a limit is refused as a whole; a text that does is refused by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xlmr.errors import InputError, TooLongError, TooManyError
from xlmr.serving.preparation import Item, size_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may hold.

    Attributes:
        max_items: texts.
        max_chars: characters of one text, or of a pair.
        max_tokens: tokens computed for all texts together; 0 for what can wait at all.
    """

    max_items: int
    max_chars: int
    max_tokens: int = 0


def admit(items: Sequence[Item], limits: Limits) -> list[InputError | None]:
    """One entry per text: None, or why it is refused; paths are relative: `$[3]`.

    Raises:
        InputError: no texts.
        TooManyError: too many.
    """
    if not items:
        raise InputError("expected at least one text, got none")
    if len(items) > limits.max_items:
        raise TooManyError(
            f"{len(items)} texts in one request; at most {limits.max_items} are taken",
            hint="send them in several requests",
        )
    return [
        None
        if size_of(item) <= limits.max_chars
        else TooLongError(
            f"length {size_of(item)}; at most {limits.max_chars} characters are read",
            path=f"$[{index}]",
        )
        for index, item in enumerate(items)
    ]
