"""What servers follow: who answers a name, what stays loaded beside, and what is counted. Pure.

It is derived anew from what is kept, each time somebody looks. A rollout holds while the alias
`live` names what it expects, an A/B split or ensemble while it names what it named when the route
was set: whoever moves the alias by hand ends both, at once and for every server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from xlmr.errors import DataError
from xlmr.registry.names import LIVE
from xlmr.registry.rollout.assignment import Canary, Ensemble, Route, Shadow, Single, Weighted
from xlmr.registry.rollout.plan import Unit
from xlmr.registry.rollout.state import State

ValueT = TypeVar("ValueT")
_KINDS: dict[str, type[Route]] = {
    "single": Single,
    "canary": Canary,
    "shadow": Shadow,
    "weighted": Weighted,
    "ensemble": Ensemble,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """What is counted of a name's requests while a rollout runs, or is watched after promotion.

    Attributes:
        salt: of the rollout.
        epoch: counts of another one are never added to these.
        objective_ms: what takes longer counts as `over_objective`; None counts nothing so.
        low_confidence_below: a less sure answer counts as `low_confidence`.
        unit: what counts once.
        shadow_capacity: of the server, the share that shadows may take at most; 0 to 1.
    """

    salt: str
    epoch: int
    objective_ms: float | None
    low_confidence_below: float
    unit: Unit
    shadow_capacity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """What a server needs to know of a name. Versions are numbers, as text.

    Attributes:
        name: of the model.
        aliases: version by alias, `live` among them.
        route: who answers the bare name, and `name@live`.
        warm: versions that stay loaded beside those of the route.
        counting: None where nothing is counted.
        digests: tree digest of every version that is named here.
        revision: grows with every change of this name.
    """

    name: str
    aliases: Mapping[str, str]
    route: Route
    warm: tuple[str, ...] = ()
    counting: Counting | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0

    def __post_init__(self) -> None:
        for key in ("aliases", "digests"):
            object.__setattr__(self, key, MappingProxyType(dict(getattr(self, key))))

    @property
    def live(self) -> str:
        """The version that is live."""
        return self.aliases[LIVE]

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {
            "name": self.name,
            "aliases": dict(self.aliases),
            "route": route_to_json(self.route),
            "warm": list(self.warm),
            "counting": None if self.counting is None else msgspec.to_builtins(self.counting),
            "digests": dict(self.digests),
            "revision": self.revision,
        }

    @classmethod
    def from_json(cls, values: object, *, origin: str = "routing") -> Routing:
        """The routing that `to_json` gave.

        Raises:
            DataError: it is something else; names the place.
            SettingsError: its route cannot be.
        """
        file = _read(values, _RoutingFile, origin)
        read = {f.name: getattr(file, f.name) for f in fields(cls)}
        return cls(**read | {"route": route_from_json(file.route, origin=origin)})


class _RoutingFile(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    aliases: dict[str, str]
    route: dict[str, Any]
    warm: tuple[str, ...]
    counting: Counting | None
    digests: dict[str, str]
    revision: int


def route_to_json(route: Route) -> dict[str, Any]:
    """Plain values; `kind` says which route it is."""
    kind = next(name for name, cls in _KINDS.items() if type(route) is cls)
    values = {f.name: getattr(route, f.name) for f in fields(route)}
    if isinstance(route, Weighted | Ensemble):
        values["weights"] = dict(route.weights)
    return {"kind": kind} | values


def route_from_json(values: Mapping[str, Any], *, origin: str = "route") -> Route:
    """The route that `route_to_json` gave.

    Raises:
        DataError: it is something else; names the place.
        SettingsError: a route that cannot be.
    """
    rest = dict(values)
    kind = _KINDS.get(str(rest.pop("kind", "")))
    if kind is None:
        raise DataError(f"{origin}: no route has this kind", hint=f"there are {', '.join(_KINDS)}")
    return _read(rest, kind, origin)


def expected_live(state: State) -> str:
    """What the alias `live` names while nobody but the rollout moves it."""
    return state.candidate if state.phase in ("watching", "done") else state.live


def derive(
    name: str,
    *,
    aliases: Mapping[str, str],
    digests: Mapping[str, str],
    revision: int,
    state: State | None,
    route: Weighted | Ensemble | None,
) -> Routing:
    """What follows from what is kept.

    Args:
        name: of the model.
        aliases: version by alias; `live` is one of them.
        digests: tree digest by version, of those that aliases, rollout and route name at least.
        revision: of the name.
        state: of its rollout; one that is over, or that somebody went past by hand, is ignored.
        route: that was set by hand and still holds.

    Raises:
        DataError: a digest is missing.
    """
    live, counting = aliases[LIVE], None
    warm: tuple[str, ...] = ()
    chosen: Route = route or Single(live)
    if state is not None and not state.over and live == expected_live(state):
        chosen, counting = state.route, _counting(state)
        warm = (state.live,) if state.phase == "watching" else ()
    named = {*aliases.values(), *chosen.versions, *warm}
    if named - digests.keys():
        raise DataError(f"{name}: a version that is kept of its rollout or route is not known")
    return Routing(
        name=name,
        aliases=aliases,
        route=chosen,
        warm=warm,
        counting=counting,
        digests={version: digests[version] for version in sorted(named)},
        revision=revision,
    )


def _counting(state: State) -> Counting:
    plan = state.plan
    return Counting(
        salt=state.salt,
        epoch=state.epoch,
        objective_ms=plan.objective_ms,
        low_confidence_below=plan.confidence.below,
        unit=plan.unit,
        shadow_capacity=plan.shadow.capacity,
    )


def _read(values: object, kind: type[ValueT], origin: str) -> ValueT:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as fault:
        raise DataError(f"{origin}: {fault}", hint="it was not written by this tool") from None
