"""Words to characters and back, without losing an entity."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xlmr.evaluation.suites.spans import (
    entities_of_tags,
    entity,
    find_words,
    join_words,
    mend_tags,
    split_words,
    tags_of_entities,
)
from xlmr.model.heads.words import words
from xlmr.types import Entity

tokens = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), min_size=1, max_size=5),
    min_size=1,
    max_size=12,
)
kinds = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
texts = st.text(max_size=40) | st.text("ab \u0e01\u0e31\u4e2d\u6587.,'\u0301", max_size=40)


@st.composite
def tagged(draw: st.DrawFn) -> tuple[list[str], tuple[str, ...]]:
    said = draw(tokens)
    return said, mend_tags(draw(st.lists(kinds, min_size=len(said), max_size=len(said))))


@st.composite
def marked(draw: st.DrawFn) -> tuple[str, list[Entity]]:
    """A text with spans anywhere in it that do not overlap."""
    text = draw(texts)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pairs = zip(cuts[::2], cuts[1::2], strict=False)
    return text, [entity(text, draw(st.sampled_from("XY")), a, b) for a, b in pairs]


@given(tagged())
def test_tags_survive_the_way_to_characters_and_back(
    case: tuple[list[str], tuple[str, ...]],
) -> None:
    said, tags = case
    text, places = join_words(said)
    entities = entities_of_tags(text, places, tags)
    assert tags_of_entities(places, entities) == tags
    assert all(text[e.start : e.end] == e.text for e in entities)


@given(tokens)
def test_joined_words_are_found_again(said: list[str]) -> None:
    text, places = join_words(said)
    assert [text[start:end] for start, end in places] == said
    assert find_words(text, said) == places


def test_a_word_that_does_not_follow_ends_the_search() -> None:
    assert find_words("a b", ["a", "c"]) == ((0, 1),)
    assert find_words("ab", ["b"]) == ()


@given(texts)
def test_words_cover_every_character_but_blanks_once(text: str) -> None:
    covered = [i for start, end in split_words(text) for i in range(start, end)]
    assert covered == [i for i, character in enumerate(text) if not character.isspace()]


@given(st.text("ab .,'\u0301-", max_size=40))
def test_the_tagging_head_splits_at_the_same_places(text: str) -> None:
    """In a script with spaces, whatever the tokens, as long as one begins with every word."""
    places = split_words(text)
    assert tuple((word.start, word.end) for word in words(text, places)) == places


@given(marked())
def test_entities_come_back_grown_to_whole_words(case: tuple[str, list[Entity]]) -> None:
    text, entities = case
    places = split_words(text)
    tags = tags_of_entities(places, entities)
    edges = {start for start, _ in places}, {end for _, end in places}
    back = entities_of_tags(text, places, tags)
    assert all(e.start in edges[0] and e.end in edges[1] for e in back)
    assert len(back) <= len(entities)
    touched = {
        i for i, (a, b) in enumerate(places) if any(a < e.end and e.start < b for e in entities)
    }
    assert touched == {i for i, tag in enumerate(tags) if tag != "O"}


@given(marked())
def test_entities_of_whole_words_come_back_as_they_were(case: tuple[str, list[Entity]]) -> None:
    text, entities = case
    places = split_words(text)
    whole = entities_of_tags(text, places, tags_of_entities(places, entities))
    assert entities_of_tags(text, places, tags_of_entities(places, whole)) == whole


def test_two_entities_in_one_word_leave_it_to_the_first() -> None:
    text = "Adarome was"
    entities = [entity(text, "PER", 0, 3), entity(text, "LOC", 3, 11)]
    assert tags_of_entities(split_words(text), entities) == ("B-PER", "B-LOC")


def test_scripts_without_spaces_are_split_between_characters() -> None:
    text = "我在罗马。"
    assert [text[a:b] for a, b in split_words(text)] == list(text)
    thai = "ที่นี่"
    assert [thai[a:b] for a, b in split_words(thai)] == ["ที่", "นี่"]


def test_mending_begins_what_continues_nothing() -> None:
    assert mend_tags(["I-A", "I-A", "I-B", "O", "I-B", "B-B"]) == (
        ("B-A", "I-A", "B-B", "O", "B-B", "B-B")
    )
