"""Whether what is kept of rollouts and routes is what the journal says. Pure.

Servers follow what is kept, without a look at the journal: a row that somebody edited would deal
callers to another version, or judge by another plan.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xlmr.errors import DataError, JournalError, SettingsError
from xlmr.registry.journal import Entry
from xlmr.registry.rollout.assignment import Single
from xlmr.registry.rollout.kept import read_digests, read_rollout
from xlmr.registry.rollout.plan import make_plan
from xlmr.registry.rollout.routing import route_from_json
from xlmr.registry.tables import Board, Version

# The phase that a line of the journal begins.
_PHASES = {
    "rollout.start": "running",
    "rollout.promote": "watching",
    "rollout.done": "done",
    "rollout.abort": "rolled_back",
    "rollout.burned": "rolled_back",
}
_OVER = ("done", "rolled_back")


@dataclass(slots=True)
class _Said:
    """What the journal says of a name, so far.

    Attributes:
        rollout: the last one, by the names of its parts; empty for none.
        route: what several versions answer by, as it is kept; empty for none.
        versions: that it names.
    """

    rollout: dict[str, Any] = field(default_factory=dict)
    route: Mapping[str, Any] = field(default_factory=dict)
    versions: tuple[int, ...] = ()

    def take(self, entry: Entry) -> None:
        """One line more, about a rollout or a route."""
        detail = json.loads(entry.detail or "{}")
        if entry.action == "route":
            route = route_from_json(detail)
            alone = isinstance(route, Single)
            self.route = {} if alone else {"route": detail, "live": str(entry.version)}
            self.versions = () if alone else tuple(map(int, route.versions))
            return
        if entry.action == "rollout.start":
            self.rollout = {"salt": detail["salt"], "plan": make_plan(detail["plan"]), "stage": 0}
        rollout = self.rollout
        rollout |= {"candidate": str(entry.version), "live version": str(entry.previous)}
        rollout["stage"] += entry.action == "rollout.advance"
        rollout["phase"] = _PHASES.get(entry.action, rollout.get("phase"))
        if entry.action == "rollout.over":
            promoted = detail["live"] == rollout["candidate"]
            rollout["phase"] = "done" if promoted else "rolled_back"
        over = rollout["phase"] in _OVER
        self.route, self.versions = {}, () if over else (entry.previous, entry.version)


def check_boards(
    boards: Iterable[Board], versions: Iterable[Version], entries: Iterable[Entry]
) -> None:
    """That rollouts and routes stand where the journal says they do.

    Raises:
        JournalError: a row was edited or removed; names it.
    """
    said: dict[str, _Said] = {}
    for entry in entries:
        if entry.action == "route" or entry.action.startswith("rollout."):
            said.setdefault(entry.name, _Said()).take(entry)
    digests = {(version.name, version.version): version.digest for version in versions}
    rows = {row.name: row for row in boards}
    for name in sorted(said.keys() | rows.keys()):
        told = said.get(name, _Said())
        named = {str(number): digests.get((name, number)) for number in told.versions}
        expected = told.rollout | {"route": told.route, "digests": named}
        found = _found(name, rows.get(name))
        for part in (*expected, *found):
            if expected.get(part) != found.get(part):
                raise JournalError(
                    f"{name}: {part} of its rollout or route is not what the journal says",
                    hint="somebody edited the table; end it and start it again, or restore a "
                    "backup",
                )


def _found(name: str, row: Board | None) -> Mapping[str, Any]:
    """What is kept, in the same words."""
    if row is None:
        return {"route": {}, "digests": {}}
    try:
        rollout, digests = read_rollout(row.rollout), read_digests(row.digests)
        route = json.loads(row.route or "{}")
    except (DataError, SettingsError, ValueError) as fault:
        raise JournalError(f"{name}: what is kept of its rollout or route: {fault}") from None
    kept = {"route": route, "digests": digests}
    if rollout is None:
        return kept
    state = rollout.state
    return kept | {
        "salt": state.salt,
        "plan": state.plan,
        "stage": state.step,
        "candidate": state.candidate,
        "live version": state.live,
        "phase": state.phase,
    }
