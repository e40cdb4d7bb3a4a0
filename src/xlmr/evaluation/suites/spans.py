"""Tags over words become entities over characters, and back.

Tags are IOB2: `B-PER` begins an entity, `I-PER` continues one, `O` is outside. An `I-PER` with
nothing to continue begins one, as in the tagging head.
"""

from __future__ import annotations

from collections.abc import Sequence

from xlmr.model.heads.words import words
from xlmr.types import Entity

OUTSIDE = "O"
Places = tuple[tuple[int, int], ...]


def split_words(text: str) -> Places:
    """Start and end of each word, as the tagging head splits: words are never cut by an answer.

    No tokenizer is asked: in a script without spaces every character may be a word.
    """
    return tuple(
        (word.start, word.end) for word in words(text, [(i, i + 1) for i in range(len(text))])
    )


def join_words(tokens: Sequence[str]) -> tuple[str, Places]:
    """The words with a blank between, and where each stands."""
    places: list[tuple[int, int]] = []
    start = 0
    for token in tokens:
        places.append((start, start + len(token)))
        start += len(token) + 1
    return " ".join(tokens), tuple(places)


def find_words(text: str, tokens: Sequence[str]) -> Places:
    """Where each word stands in a text that holds them in order, with only blanks between.

    Returns:
        As many places as were found; fewer than `tokens` where the next one does not follow.
    """
    places: list[tuple[int, int]] = []
    end = 0
    for token in tokens:
        start = end
        while not text.startswith(token, start) and start < len(text) and text[start].isspace():
            start += 1
        if not text.startswith(token, start):
            break
        end = start + len(token)
        places.append((start, end))
    return tuple(places)


def mend_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """The same entities in strict IOB2: an `I-` that continues nothing becomes a `B-`."""
    mended: list[str] = []
    for tag in tags:
        continues = mended and mended[-1][1:] == tag[1:]
        mended.append(tag if tag == OUTSIDE or tag[0] == "B" or continues else "B" + tag[1:])
    return tuple(mended)


def entities_of_tags(
    text: str, places: Sequence[tuple[int, int]], tags: Sequence[str]
) -> tuple[Entity, ...]:
    """The entities that IOB2 tags mark, in order.

    Args:
        text: the text.
        places: start and end of each word in it.
        tags: one for each word.
    """
    found: list[tuple[str, int, int]] = []
    for (start, end), tag in zip(places, mend_tags(tags), strict=True):
        if tag == OUTSIDE:
            continue
        if tag[0] == "B":
            found.append((tag[2:], start, end))
        else:
            found[-1] = (tag[2:], found[-1][1], end)
    return tuple(entity(text, label, start, end) for label, start, end in found)


def tags_of_entities(
    places: Sequence[tuple[int, int]], entities: Sequence[Entity]
) -> tuple[str, ...]:
    """IOB2 tags for words, from entities over characters.

    A word belongs to the first entity that has a character of it, so an entity that ends inside a
    word takes the whole of it. An entity that shares all its words with earlier ones is lost.

    Args:
        places: start and end of each word, rising.
        entities: in order of appearance, without overlap.
    """
    tags: list[str] = []
    current = 0
    begun = -1
    for start, end in places:
        while current < len(entities) and entities[current].end <= start:
            current += 1
        if current == len(entities) or entities[current].start >= end:
            tags.append(OUTSIDE)
            continue
        tags.append(("I-" if begun == current else "B-") + entities[current].label)
        begun = current
    return tuple(tags)


def entity(text: str, label: str, start: int, end: int) -> Entity:
    """An entity somebody marked, and so a sure one."""
    return Entity(label=label, start=start, end=end, text=text[start:end], score=1.0)
