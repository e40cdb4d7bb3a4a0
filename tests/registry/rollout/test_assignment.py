from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.errors import SettingsError
from xlmr.registry.rollout.assignment import (
    Assignment,
    Canary,
    Ensemble,
    Route,
    Shadow,
    Single,
    Weighted,
    assign,
    in_share,
    key_of,
    weighted,
)

KEYS = [f"request-{number}" for number in range(20_000)]
TEXT = st.text(max_size=40)
WEIGHTS = st.dictionaries(
    st.sampled_from(["v1", "v2", "v3", "v4"]), st.floats(0.01, 100.0), min_size=1
)


def off(found: int, share: float, of: int) -> float:
    """Standard deviations from the share."""
    return abs(found - of * share) / math.sqrt(of * share * (1.0 - share))


@pytest.mark.parametrize("share", [1, 100, 500, 2500, 5000, 9999])
def test_shares_are_kept(share: int) -> None:
    found = sum(in_share("rollout-1", key, share) for key in KEYS)
    assert off(found, share / 10_000, len(KEYS)) < 4.0


def test_two_rollouts_deal_independently() -> None:
    both = sum(in_share("one", key, 5000) and in_share("two", key, 5000) for key in KEYS)
    assert off(both, 0.25, len(KEYS)) < 4.0


def test_languages_and_neighbours_are_dealt_alike() -> None:
    """Keys that differ in one character only, as request ids of one process do."""
    found = [in_share("s", key, 5000) for key in KEYS]
    changes = sum(one != other for one, other in pairwise(found))
    assert off(changes, 0.5, len(KEYS) - 1) < 4.0


@settings(deadline=None)
@given(TEXT, TEXT, st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_larger_share_moves_nobody_back(salt: str, key: str, one: int, other: int) -> None:
    small, large = sorted((one, other))
    assert in_share(salt, key, small) <= in_share(salt, key, large)
    assert not in_share(salt, key, 0)
    assert in_share(salt, key, 10_000)


@settings(deadline=None)
@given(TEXT, TEXT, WEIGHTS, st.sampled_from(["v1", "v2"]), st.floats(1.0, 50.0))
def test_a_version_that_grows_only_takes(
    salt: str, key: str, weights: dict[str, float], grown: str, factor: float
) -> None:
    before = weighted(salt, key, weights)
    after = weighted(salt, key, weights | {grown: weights.get(grown, 0.01) * factor})
    assert after in (before, grown)


def test_weights_are_kept() -> None:
    weights = {"v1": 70.0, "v2": 20.0, "v3": 10.0}
    found = Counter(weighted("a/b", key, weights) for key in KEYS)
    for version, weight in weights.items():
        assert off(found[version], weight / 100.0, len(KEYS)) < 4.0


def test_dealing_is_the_same_for_ever() -> None:
    """Written down, so that a new hash is noticed: it would deal every caller anew."""
    dealt = "".join(str(int(in_share("salt", f"k{n}", 5000))) for n in range(32))
    assert dealt == DEALT
    chosen = "".join(weighted("salt", f"k{n}", {"a": 1.0, "b": 2.0}) for n in range(32))
    assert chosen == CHOSEN


DEALT = "01101000100010110111111111101111"
CHOSEN = "abbbabaaabaababbaaaabbbbbaabbaaa"


def test_parts_of_a_hash_do_not_run_into_each_other() -> None:
    found = [(in_share("ab", f"c{n}", 5000), in_share("a", f"bc{n}", 5000)) for n in range(200)]
    assert 60 < sum(one == other for one, other in found) < 140


def test_any_key_can_be_dealt() -> None:
    assert in_share("s", "\udcff", 10_000)
    assert weighted("s", "\udcff", {"v1": 1.0}) == "v1"


def test_callers_stay_where_they_are_and_the_nameless_are_dealt_by_request() -> None:
    route = Canary("v1", "v2", 5000, "s", unit="caller")
    named = {assign(route, caller="shop", request_id=key).arm for key in KEYS[:100]}
    assert len(named) == 1
    nameless = {assign(route, caller="anonymous", request_id=key).arm for key in KEYS[:100]}
    assert nameless == {"live", "candidate"}
    by_request = Canary("v1", "v2", 5000, "s")
    assert {assign(by_request, caller="shop", request_id=key).arm for key in KEYS[:100]} == nameless
    assert key_of("caller", caller="", request_id="r") == "r"


def test_each_route_says_who_answers_and_who_listens() -> None:
    asked = {"caller": "shop", "request_id": "r"}
    assert assign(Single("v1"), **asked) == Assignment(("v1",), "v1")
    assert assign(Canary("v1", "v2", 0, "s"), **asked) == Assignment(("v1",), "live")
    assert assign(Canary("v1", "v2", 10_000, "s"), **asked) == Assignment(("v2",), "candidate")
    assert assign(Shadow("v1", "v2", 0, "s"), **asked) == Assignment(("v1",), "live")
    shadowed = assign(Shadow("v1", "v2", 10_000, "s"), **asked)
    assert shadowed == Assignment(("v1",), "live", ("v2",))
    assert assign(Weighted({"v3": 1.0}, "s"), **asked) == Assignment(("v3",), "v3")
    ensemble = Ensemble({"v1": 1.0, "v2": 3.0})
    assert assign(ensemble, **asked).answers == ("v1", "v2")
    assert ensemble.average_weights == {"v1": 0.25, "v2": 0.75}


@pytest.mark.parametrize(
    ("route", "versions"),
    [
        (Single("v1"), ("v1",)),
        (Canary("v1", "v2", 100, "s"), ("v1", "v2")),
        (Shadow("v1", "v2", 100, "s"), ("v1", "v2")),
        (Weighted({"v1": 1.0, "v2": 1.0}, "s"), ("v1", "v2")),
        (Ensemble({"v1": 1.0, "v2": 1.0}), ("v1", "v2")),
    ],
)
def test_a_route_names_what_must_be_loaded(route: Route, versions: tuple[str, ...]) -> None:
    assert route.versions == versions


def test_routes_that_cannot_be_are_refused() -> None:
    for share in (-1, 10_001):
        with pytest.raises(SettingsError, match="canary"):
            Canary("v1", "v2", share, "s")
        with pytest.raises(SettingsError, match="shadow"):
            Shadow("v1", "v2", share, "s")
    for weights in ({}, {"v1": 0.0}, {"v1": math.nan}, {"v1": math.inf}):
        with pytest.raises(SettingsError, match="weights"):
            Weighted(weights, "s")
    with pytest.raises(SettingsError, match="two"):
        Ensemble({"v1": 1.0})


def test_weights_of_a_route_cannot_be_changed() -> None:
    route = Weighted({"v1": 1.0}, "s")
    with pytest.raises(TypeError):
        route.weights["v2"] = 1.0  # type: ignore[index]
