"""A comparison is paired, fair to small languages, and says how sure it is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.errors import DataError
from xlmr.evaluation.compare import Scores, compare

rows = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30)
data = st.dictionaries(st.sampled_from(["en", "de", "sw"]), rows, min_size=1)


def sides(given_: dict[str, list[tuple[bool, bool]]]) -> tuple[Scores, Scores]:
    return (
        {language: np.array([a for a, _ in found], float) for language, found in given_.items()},
        {language: np.array([b for _, b in found], float) for language, found in given_.items()},
    )


@settings(max_examples=30, deadline=None)
@given(data)
def test_properties(given_: dict[str, list[tuple[bool, bool]]]) -> None:
    old, new = sides(given_)
    there, back = compare(old, new, samples=40), compare(new, old, samples=40)
    for difference in (there.macro, *there.languages.values()):
        assert -1 <= difference.low <= difference.difference <= difference.high <= 1
        assert difference.difference == pytest.approx(difference.new - difference.old)
    assert there.macro.difference == pytest.approx(
        np.mean([found.difference for found in there.languages.values()])
    )
    assert there.macro.low == pytest.approx(-back.macro.high)
    order = [found.difference for found in there.languages.values()]
    assert order == sorted(order)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_a_model_does_not_differ_from_itself(scores: list[float]) -> None:
    same = {"en": np.array(scores)}
    macro = compare(same, same, samples=20).macro
    assert (macro.difference, macro.low, macro.high) == (0.0, 0.0, 0.0)


def test_pairing_tells_apart_what_two_intervals_cannot() -> None:
    old = (np.arange(200) % 2 == 0).astype(float)
    new = old.copy()
    new[1:40:2] = 1.0  # the same rows right, and 20 more
    found = compare({"de": old}, {"de": new}).languages["de"]
    assert found.difference == pytest.approx(0.1)
    # Standard error of 20 ones in 200 rows: 0.0212; unpaired it would be 0.0497 and hold 0.
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * 0.0212, rel=0.15)
    assert found.low > 0.05


def test_languages_count_the_same_however_many_rows() -> None:
    old = {"en": np.zeros(1000), "sw": np.ones(10)}
    new = {"en": np.ones(1000), "sw": np.zeros(10)}
    found = compare(old, new)
    assert found.macro.difference == 0.0
    assert found.macro.n == 1010
    assert list(found.languages) == ["sw", "en"]


def test_an_interval_stays_when_a_language_joins() -> None:
    chance = np.random.default_rng(0)
    old, new = chance.uniform(size=50), chance.uniform(size=50)
    alone = compare({"de": old}, {"de": new})
    both = compare({"de": old, "ar": new}, {"de": new, "ar": old})
    assert both.languages["de"] == alone.languages["de"]


def test_it_survives_json() -> None:
    written = json.loads(json.dumps(compare({"de": np.zeros(3)}, {"de": np.ones(3)}).to_json()))
    assert written["languages"] == [
        {"language": "de", "n": 3, "old": 0, "new": 1, "difference": 1, "low": 1, "high": 1}
    ]
    assert written["macro"]["difference"] == 1


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ({}, {}, "nothing to compare"),
        ({"de": np.ones(1)}, {"en": np.ones(1)}, "languages de against en"),
        ({"de": np.ones(1)}, {"de": np.ones(2)}, "de: 1 rows against 2"),
        ({"de": np.ones(0)}, {"de": np.ones(0)}, "de: 0 rows"),
    ],
)
def test_other_rows_are_refused(old: Scores, new: Scores, word: str) -> None:
    with pytest.raises(DataError, match=word):
        compare(old, new)


def test_any_figure_can_be_compared_row_by_row() -> None:
    generator = np.random.default_rng(0)
    gold_N = generator.normal(size=60)
    better = np.stack([gold_N, gold_N + generator.normal(scale=0.1, size=60)], axis=1)
    worse = np.stack([gold_N, gold_N + generator.normal(scale=3.0, size=60)], axis=1)

    def correlation(values_N2: np.ndarray) -> float:
        return float(np.corrcoef(values_N2.T)[0, 1])

    found = compare({"en": worse}, {"en": better}, metric="pearson", figure=correlation)
    expected = correlation(better) - correlation(worse)
    assert found.languages["en"].difference == pytest.approx(expected)
    assert found.languages["en"].low > 0.0
    assert found.metric == "pearson"
