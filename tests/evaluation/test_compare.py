"""A comparison is paired, fair to small languages, and says how sure it is."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.errors import DataError
from xlmr.evaluation.compare import Comparison, Scores, compare
from xlmr.evaluation.metrics.draws import rank_correlations
from xlmr.evaluation.metrics.regression import spearman
from xlmr.evaluation.translations import Translations

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
    found = compare({"en": worse}, {"en": better}, metric="spearman", figures=rank_correlations)
    expected = spearman(*better.T) - spearman(*worse.T)
    assert found.languages["en"].difference == pytest.approx(expected)
    assert found.languages["en"].low > 0.0
    assert found.metric == "spearman"


def row_by_row(old: Scores, new: Scores, samples: int = 1000) -> tuple[float, float]:
    """The macro's interval where rows are independent, draw by draw."""
    gains = np.zeros(samples)
    for language in old:
        gain_N = new[language] - old[language]
        generator = np.random.default_rng([0, zlib.crc32(language.encode())])
        for i in range(samples):
            drawn_N = generator.integers(0, len(gain_N), len(gain_N))
            gains[i] += gain_N[drawn_N].mean() / len(old)
    low, high = np.quantile(gains, (0.025, 0.975))
    return float(low), float(high)


def parallel(*languages: str, rows: int) -> Translations:
    return Translations("place", rows, {name: np.arange(rows) for name in languages})


def width(found: Comparison) -> float:
    return found.macro.high - found.macro.low


def test_independent_rows_are_drawn_one_by_one() -> None:
    chance = np.random.default_rng(1)
    old = {name: chance.integers(0, 2, n).astype(float) for name, n in (("de", 80), ("sw", 30))}
    new = {name: chance.integers(0, 2, len(each)).astype(float) for name, each in old.items()}
    found = compare(old, new)
    assert (found.macro.low, found.macro.high) == pytest.approx(row_by_row(old, new))
    assert found.together is None


@pytest.mark.parametrize("languages", [2, 9])
def test_languages_that_move_as_one_are_as_sure_as_one(languages: int) -> None:
    chance = np.random.default_rng(2)
    old_N, new_N = chance.integers(0, 2, (2, 300)).astype(float)
    names = [f"x{i}" for i in range(languages)]
    old, new = dict.fromkeys(names, old_N), dict.fromkeys(names, new_N)
    together = compare(old, new, translations=parallel(*names, rows=300))
    assert width(together) == pytest.approx(width(compare({"x0": old_N}, {"x0": new_N})), rel=0.1)
    assert width(compare(old, new)) == pytest.approx(width(together) / languages**0.5, rel=0.1)
    assert together.together == "place"


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), languages=st.integers(2, 6), alike=st.floats(0, 1))
def test_it_is_as_wide_as_theory_says(seed: int, languages: int, alike: float) -> None:
    """Translations that share more or less, some of them missing in some languages."""
    chance = np.random.default_rng(seed)
    originals = 400
    shared_O = chance.normal(size=originals)
    names = [f"x{i}" for i in range(languages)]
    places = {
        name: np.sort(chance.permutation(originals)[: 150 + 40 * i]) for i, name in enumerate(names)
    }
    new = {
        name: alike * shared_O[place_N] + (1 - alike) * chance.normal(size=len(place_N))
        for name, place_N in places.items()
    }
    old = {name: np.zeros(len(each)) for name, each in new.items()}
    found = compare(old, new, translations=Translations("id", originals, places), samples=2000)
    pull_O = np.zeros(originals)  # of each original on the macro figure
    for name, place_N in places.items():
        pull_O[place_N] += (new[name] - new[name].mean()) / len(place_N) / languages
    assert width(found) / 2 == pytest.approx(1.96 * np.sqrt(np.sum(pull_O**2)), rel=0.12)


def test_drawing_strangers_together_changes_little() -> None:
    chance = np.random.default_rng(3)
    names = [f"x{i}" for i in range(8)]
    old = {name: chance.integers(0, 2, 400).astype(float) for name in names}
    new = {name: chance.integers(0, 2, 400).astype(float) for name in names}
    together = compare(old, new, translations=parallel(*names, rows=400))
    assert width(together) == pytest.approx(width(compare(old, new)), rel=0.15)


def test_each_languages_interval_stays_whatever_is_drawn_together() -> None:
    chance = np.random.default_rng(4)
    old = {name: chance.uniform(size=20) for name in ("de", "sw")}
    new = {name: chance.uniform(size=20) for name in ("de", "sw")}
    together = compare(old, new, translations=parallel("de", "sw", rows=20))
    assert together.languages == compare(old, new).languages
    assert together.macro.difference == compare(old, new).macro.difference


def test_a_language_of_one_row_is_not_lost_in_draws_that_miss_it() -> None:
    places = {"de": np.arange(50), "sw": np.array([7])}
    old = {"de": np.zeros(50), "sw": np.zeros(1)}
    new = {"de": np.zeros(50), "sw": np.ones(1)}
    macro = compare(old, new, translations=Translations("id", 50, places)).macro
    assert (macro.low, macro.difference, macro.high) == (0.5, 0.5, 0.5)
