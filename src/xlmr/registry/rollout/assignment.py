"""Which version answers: a hash of the caller or of the request, sticky and replayable. Pure.

Whoever knows a route and a key knows the answer, on every server and a year later; nothing is
remembered. Each route has its own salt, so that those who met one route's candidate are no likelier
to meet another's. Costs two microseconds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from xlmr.errors import SettingsError
from xlmr.registry.rollout.evidence import CANDIDATE, LIVE
from xlmr.registry.rollout.plan import BASIS_POINTS, Unit

Arm = Literal["live", "candidate"]
# Of everybody who shows no key; as one caller they would all land on one side.
_ANONYMOUS = "anonymous"
_RANGE = 1 << 64


@dataclass(frozen=True, slots=True)
class Single:
    """One version answers everything."""

    version: str

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that must be loaded."""
        return (self.version,)


@dataclass(frozen=True, slots=True)
class Canary:
    """The candidate answers a share of the requests, or of the callers.

    Attributes:
        live: version.
        candidate: version.
        share: in hundredths of a percent, 0 to 10,000.
        salt: of the rollout; another one deals anew.
        unit: what is dealt.
    """

    live: str
    candidate: str
    share: int
    salt: str
    unit: Unit = "request"

    def __post_init__(self) -> None:
        _check_share("canary", self.share)

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that must be loaded."""
        return (self.live, self.candidate)


@dataclass(frozen=True, slots=True)
class Shadow:
    """The live version answers; the candidate reads a share of the requests besides.

    Attributes:
        live: version.
        candidate: version.
        share: in hundredths of a percent, 0 to 10,000.
        salt: of the rollout.
        unit: what is dealt.
    """

    live: str
    candidate: str
    share: int
    salt: str
    unit: Unit = "request"

    def __post_init__(self) -> None:
        _check_share("shadow", self.share)

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that must be loaded."""
        return (self.live, self.candidate)


@dataclass(frozen=True, slots=True)
class Weighted:
    """Several versions share the requests by weight: A/B.

    Attributes:
        weights: by version, above 0; they need not sum to anything.
        salt: of the experiment.
        unit: what is dealt.
    """

    weights: Mapping[str, float]
    salt: str
    unit: Unit = "caller"

    def __post_init__(self) -> None:
        if not self.weights or not all(0.0 < w < math.inf for w in self.weights.values()):
            raise SettingsError("weights must be finite and above 0", hint="leave others out")
        object.__setattr__(self, "weights", MappingProxyType(dict(self.weights)))

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that must be loaded."""
        return tuple(self.weights)


@dataclass(frozen=True, slots=True)
class Ensemble:
    """All of several versions answer, and their calibrated probabilities are averaged.

    Attributes:
        weights: of the average by version, above 0; `average_weights` makes them sum to 1.
    """

    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        if len(self.weights) < 2 or not all(0.0 < w < math.inf for w in self.weights.values()):
            raise SettingsError(
                "an ensemble needs two versions or more, with weights above 0",
                hint="a single version needs no ensemble",
            )
        object.__setattr__(self, "weights", MappingProxyType(dict(self.weights)))

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that must be loaded."""
        return tuple(self.weights)

    @property
    def average_weights(self) -> dict[str, float]:
        """Weights that sum to 1."""
        whole = math.fsum(self.weights.values())
        return {version: weight / whole for version, weight in self.weights.items()}


Route = Single | Canary | Shadow | Weighted | Ensemble


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a request is given to.

    Attributes:
        answers: versions whose answer is used: several only in an ensemble.
        shadows: versions that read it besides, whose answer nobody waits for.
        arm: under which it is counted.
    """

    answers: tuple[str, ...]
    arm: str
    shadows: tuple[str, ...] = field(default=())


def key_of(unit: Unit, *, caller: str, request_id: str) -> str:
    """What is hashed: the caller's name, or the request's id where callers have no name."""
    return caller if unit == "caller" and caller and caller != _ANONYMOUS else request_id


def assign(route: Route, *, caller: str, request_id: str) -> Assignment:
    """Deals a request.

    Args:
        route: of the model's name.
        caller: an opaque name.
        request_id: of the request; a repeated one is dealt the same again.
    """
    match route:
        case Single(version):
            return Assignment((version,), version)
        case Ensemble():
            return Assignment(route.versions, "+".join(route.versions))
        case Weighted(weights, salt, unit):
            chosen = weighted(salt, key_of(unit, caller=caller, request_id=request_id), weights)
            return Assignment((chosen,), chosen)
        case Canary():
            if _drawn(route, caller, request_id):
                return Assignment((route.candidate,), CANDIDATE)
            return Assignment((route.live,), LIVE)
        case Shadow():
            besides = (route.candidate,) if _drawn(route, caller, request_id) else ()
            return Assignment((route.live,), LIVE, besides)


def _drawn(route: Canary | Shadow, caller: str, request_id: str) -> bool:
    key = key_of(route.unit, caller=caller, request_id=request_id)
    return in_share(route.salt, key, route.share)


def in_share(salt: str, key: str, share: int) -> bool:
    """Whether a key is among a share, in hundredths of a percent.

    Whoever is in a share is in every larger one of the same salt.
    """
    return _hash(salt, key) * BASIS_POINTS < share * _RANGE


def weighted(salt: str, key: str, weights: Mapping[str, float]) -> str:
    """One of several versions, by weight.

    Each version draws a time, the sooner the larger its weight, and the first one wins. So a weight
    that grows takes keys from others and never gives any back, and nothing moves between two
    versions whose weights stay.
    """
    return min(weights, key=lambda version: (_wait(salt, key, version) / weights[version], version))


def _wait(salt: str, key: str, version: str) -> float:
    """Exponentially distributed, above 0."""
    return -math.log((_hash(salt, key, version) + 0.5) / _RANGE)


def _hash(salt: str, *parts: str) -> int:
    """64 bits of parts that cannot run into each other."""
    framed = "".join(f"{len(part)}:{part}" for part in (salt, *parts))
    drawn = hashlib.blake2b(framed.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(drawn.digest(), "big")


def _check_share(kind: str, share: int) -> None:
    if not 0 <= share <= BASIS_POINTS:
        raise SettingsError(
            f"{kind}: share must be 0 to {BASIS_POINTS}, got {share}",
            hint="shares are hundredths of a percent",
        )
