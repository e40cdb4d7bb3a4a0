"""A route in words, for the log, and in figures, for those who operate."""

from __future__ import annotations

from typing import NamedTuple

from xlmr.registry.rollout.assignment import Canary, Ensemble, Route, Shadow, Single, Weighted
from xlmr.registry.rollout.plan import BASIS_POINTS


class Share(NamedTuple):
    """A version's part in a route: of the answers, and of the requests it reads besides; 0 to 1."""

    answers: float = 0.0
    shadows: float = 0.0


def share_of(route: Route, version: str) -> Share:
    """What a route gives to a version."""
    match route:
        case Single():
            return Share(float(version == route.version))
        case Canary():
            share = route.share / BASIS_POINTS
            return Share({route.candidate: share, route.live: 1.0 - share}.get(version, 0.0))
        case Shadow():
            shadows = route.share / BASIS_POINTS if version == route.candidate else 0.0
            return Share(float(version == route.live), shadows)
        case Weighted(weights):
            return Share(weights.get(version, 0.0) / sum(weights.values()))
        case Ensemble():
            return Share(route.average_weights.get(version, 0.0))


def route_in_words(route: Route) -> str:
    """Who answers, in one sentence."""
    match route:
        case Single(version):
            return f"version {version} answers"
        case Canary(live, candidate):
            share = _percent(route.share / BASIS_POINTS)
            return f"version {candidate} answers {share} of the {route.unit}s, {live} the others"
        case Shadow(live, candidate):
            share = _percent(route.share / BASIS_POINTS)
            return f"version {live} answers, {candidate} reads {share} of the {route.unit}s besides"
        case Weighted(weights):
            whole = sum(weights.values())
            shares = ", ".join(f"{_percent(w / whole)} by {v}" for v, w in weights.items())
            return f"{route.unit}s are answered {shares}"
        case Ensemble():
            shares = ", ".join(f"{_percent(w)} {v}" for v, w in route.average_weights.items())
            return f"answers are averaged of {shares}"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
