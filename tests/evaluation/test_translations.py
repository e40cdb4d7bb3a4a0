"""Rows are translations where the data says so, and nobody's where it does not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.evaluation.suites import AnyRow, BitextRow, Row
from xlmr.evaluation.translations import ToldBy, find_translations

IDS = st.lists(st.sampled_from(["", "1", "2", "3"]), max_size=6)


def rows(language: str, ids: Sequence[str], first_line: int = 1) -> list[Row]:
    return [Row("x", "a", language, line, name) for line, name in enumerate(ids, start=first_line)]


def told(*found: Sequence[AnyRow]) -> tuple[ToldBy, dict[str, list[int]]] | None:
    translations = find_translations([row for each in found for row in each])
    if translations is None:
        return None
    assert translations.originals == 1 + max(max(each) for each in translations.places.values())
    return translations.told_by, {
        name: places.tolist() for name, places in translations.places.items()
    }


def test_an_id_tells_whatever_the_order() -> None:
    found = told(rows("en", ["7", "8", "9"]), rows("de", ["9", "7"]))
    assert found == ("id", {"en": [0, 1, 2], "de": [2, 0]})


def test_ids_that_no_two_languages_share_tell_that_there_are_none() -> None:
    assert told(rows("en", ["en-1", "en-2"]), rows("de", ["de-1", "de-2"])) is None


def test_an_id_of_many_rows_takes_them_one_by_one() -> None:
    """So that an id which is the same everywhere does not make one original of all rows."""
    found = told(rows("en", ["set", "set"]), rows("de", ["set", "set", "set"]))
    assert found == ("id", {"en": [0, 1], "de": [0, 1, 2]})


def test_rows_without_the_id_that_others_have_stand_alone() -> None:
    found = told(rows("en", ["1", "", ""]), rows("de", ["", "1"]))
    assert found == ("id", {"en": [0, 1, 2], "de": [3, 0]})


def test_a_bitext_is_told_by_its_english_side() -> None:
    german = [BitextRow("Good day.", "Guten Tag.", "de", 1), BitextRow("Yes.", "Ja.", "de", 2)]
    french = [BitextRow("Yes.", "Oui.", "fr", 1)]
    assert told(german, french) == ("english", {"de": [0, 1], "fr": [1]})


def test_lines_tell_in_files_of_one_length_although_rows_were_dropped() -> None:
    german = [row for row in rows("de", ["", "", ""]) if row.line != 2]
    found = told(rows("en", ["", "", ""]), german)
    assert found == ("place", {"en": [0, 1, 2], "de": [0, 2]})


def test_files_that_lost_some_rows_at_the_end_are_still_of_one_length() -> None:
    found = told(rows("en", [""] * 20), rows("de", [""] * 18))
    assert found == ("place", {"en": list(range(20)), "de": list(range(18))})
    assert told(rows("en", [""] * 20), rows("de", [""] * 17)) is None


def test_rows_that_take_turns_in_one_file_are_told_by_their_place() -> None:
    english = [Row("x", "a", "en", line) for line in range(1, 40, 2)]
    german = [Row("x", "a", "de", line) for line in range(2, 41, 2)]
    assert told(english, german) == ("place", {"en": list(range(20)), "de": list(range(20))})


def test_places_tell_in_one_file_of_as_many_rows_each() -> None:
    found = told(rows("en", ["", ""]), rows("de", ["", ""], first_line=3))
    assert found == ("place", {"en": [0, 1], "de": [0, 1]})


@pytest.mark.parametrize("languages", [1, 2])
def test_one_language_or_other_numbers_of_rows_tell_nothing(languages: int) -> None:
    assert told(rows("en", ["", "", ""]), *[rows("de", ["", ""])] * (languages - 1)) is None


@given(st.dictionaries(st.sampled_from(["en", "de", "sw"]), IDS))
def test_no_language_has_two_rows_of_one_original(ids: dict[str, list[str]]) -> None:
    made = [row for language, each in ids.items() for row in rows(language, each)]
    found = find_translations(made)
    if found is None:
        return
    assert sum(map(len, found.places.values())) == len(made) > found.originals
    for language, each in ids.items():
        if each:
            assert len(set(found.places[language].tolist())) == len(each)
