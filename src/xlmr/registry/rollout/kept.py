"""What is kept of a name besides its aliases: as values, and as the text a database holds. Pure."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

import msgspec

from xlmr.errors import DataError
from xlmr.registry.rollout.assignment import Ensemble, Weighted
from xlmr.registry.rollout.routing import route_from_json, route_to_json
from xlmr.registry.rollout.state import State

# A look that says what the last one said is written down again after a minute, then at distances
# that double, and hourly in the end.
_SOONEST_S = 60.0
_LATEST_S = 3600.0


class Look(msgspec.Struct, frozen=True):
    """The last look that is in the journal.

    Attributes:
        said: its outcome and first reason.
        at: when, in seconds since 1970.
        since: when the first look that said so was written down.
    """

    said: str
    at: float
    since: float


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout as it is kept.

    Attributes:
        state: where it stands.
        counts: kind of the `CountStore` that all servers count in.
        evidence: digest of the gate's report that let it start; empty for none.
        override: whether it was started although no report allowed it.
        look: the last one in the journal; None for none.
    """

    state: State
    counts: str
    evidence: str = ""
    override: bool = False
    look: Look | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """All that is kept of a name.

    Attributes:
        live: the version that is live; empty for none.
        rollout: the last one; None where there never was one.
        route: the A/B split or ensemble that answers; None for the live version alone.
    """

    name: str
    live: str
    rollout: Rollout | None
    route: Weighted | Ensemble | None


def next_look(last: Look | None, said: str, now: float) -> Look | None:
    """The look to be written down, or None where the last one will do.

    Args:
        last: the last one in the journal.
        said: outcome and first reason of this one.
        now: seconds since 1970.
    """
    if last is None or last.said != said:
        return Look(said, now, now)
    distance = min(_LATEST_S, max(_SOONEST_S, last.at - last.since))
    # A clock that went back must not silence it until that time comes again.
    return None if 0.0 <= now - last.at < distance else Look(said, now, last.since)


# Servers read the same text every second.
@functools.lru_cache(maxsize=256)
def read_rollout(text: str) -> Rollout | None:
    """The rollout that `rollout_text` wrote; None of an empty text.

    Raises:
        DataError, SettingsError: it is something else.
    """
    if not text:
        return None
    values = _read(text)
    try:
        rollout = msgspec.convert(values, Rollout)
    except msgspec.ValidationError as fault:
        raise DataError(f"rollout: {fault}", hint="it was not written by this tool") from None
    return msgspec.structs.replace(rollout, state=State.from_json(values["state"]))


def rollout_text(rollout: Rollout | None) -> str:
    """A rollout as text; empty for none."""
    if rollout is None:
        return ""
    return json.dumps(msgspec.to_builtins(rollout) | {"state": rollout.state.to_json()})


def read_route(text: str, live: str) -> Weighted | Ensemble | None:
    """The route that `route_text` wrote; None once another version than then is live.

    Raises:
        DataError, SettingsError: it is something else.
    """
    values = _read(text)
    if not live or values.get("live") != live:
        return None
    route = route_from_json(values.get("route", {}))
    return route if isinstance(route, Weighted | Ensemble) else None


def route_text(route: Weighted | Ensemble | None, live: str) -> str:
    """A route, and the version that is live while it holds; empty for none."""
    return "" if route is None else json.dumps({"route": route_to_json(route), "live": live})


def read_digests(text: str) -> dict[str, str]:
    """Tree digests by version, of what a rollout or a route names.

    Raises:
        DataError: it is something else.
    """
    return {version: str(digest) for version, digest in _read(text).items()}


def _read(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text or "{}")
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise DataError("what is kept of a rollout was not written by this tool")
    return values
