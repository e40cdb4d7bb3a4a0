"""A route as it is told: in one sentence, and as each version's share."""

from __future__ import annotations

import pytest

from xlmr.registry.rollout.assignment import Canary, Ensemble, Shadow, Single, Weighted
from xlmr.serving.follow.words import Share, route_in_words, share_of

TOLD = [
    (Single("3"), "version 3 answers", {"3": Share(1.0)}),
    (
        Canary("3", "4", 500, "s"),
        "version 4 answers 5 % of the requests, 3 the others",
        {"3": Share(0.95), "4": Share(0.05)},
    ),
    (
        Shadow("3", "4", 1000, "s", "caller"),
        "version 3 answers, 4 reads 10 % of the callers besides",
        {"3": Share(1.0), "4": Share(0.0, 0.1)},
    ),
    (
        Weighted({"3": 1.0, "4": 3.0}, "s"),
        "callers are answered 25 % by 3, 75 % by 4",
        {"3": Share(0.25), "4": Share(0.75)},
    ),
    (
        Ensemble({"3": 1.0, "4": 1.0}),
        "answers are averaged of 50 % 3, 50 % 4",
        {"3": Share(0.5), "4": Share(0.5)},
    ),
]


@pytest.mark.parametrize(("route", "words", "shares"), TOLD, ids=lambda v: type(v).__name__)
def test_a_route_is_told(route, words, shares):
    assert route_in_words(route) == words
    assert {version: share_of(route, version) for version in shares} == shares
    assert share_of(route, "9") == Share()
