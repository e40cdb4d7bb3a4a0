"""Where rollouts and routes are kept: in the catalogue's database, each change with its line.

A change is one transaction: the new state, provided that nobody changed it meanwhile, the alias it
moves, and its lines in the journal. Nothing else has to be done for it to take effect: servers read
what follows from it (`table`), so a process killed anywhere leaves what was or what should be.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from xlmr.errors import MissingExtraError, RegistryConflictError, RegistryError
from xlmr.registry.catalogue import Catalogue, Change
from xlmr.registry.journal import BACK, FORWARD, Line
from xlmr.registry.names import LIVE
from xlmr.registry.rollout.assignment import Ensemble, Single, Weighted
from xlmr.registry.rollout.kept import (
    Look,
    Rollout,
    Standing,
    next_look,
    read_digests,
    read_rollout,
    read_route,
    rollout_text,
    route_text,
)
from xlmr.registry.rollout.routing import Routing, derive, route_to_json
from xlmr.registry.rollout.state import Actions, Note, SetLive, State
from xlmr.registry.store import Step, no_step
from xlmr.registry.tables import ALIASES, BOARD, VERSIONS

try:
    import sqlalchemy as sql
    from sqlalchemy.engine import Connection
except ImportError:
    raise MissingExtraError("sqlalchemy", extra="registry") from None


class Board:
    """Rollouts and routes by name.

    Every method raises RegistryUnavailableError where the database is away.
    """

    def __init__(self, catalogue: Catalogue, *, step: Step = no_step) -> None:
        self.catalogue = catalogue
        self._step = step

    def table(self, names: Collection[str]) -> Mapping[str, Routing]:
        """What servers follow; a name without a live version is left out. One select.

        Raises:
            DataError, SettingsError: what is kept cannot be understood.
        """
        joined = ALIASES.join(
            VERSIONS,
            (VERSIONS.c.name == ALIASES.c.name) & (VERSIONS.c.version == ALIASES.c.version),
        ).outerjoin(BOARD, BOARD.c.name == ALIASES.c.name)
        columns = (
            *(ALIASES.c.name, ALIASES.c.alias, ALIASES.c.version, VERSIONS.c.digest),
            *(BOARD.c.revision, BOARD.c.rollout, BOARD.c.route, BOARD.c.digests),
        )
        asked = sql.select(*columns).select_from(joined).where(ALIASES.c.name.in_(list(names)))
        with self.catalogue.reading() as connection:
            rows = connection.execute(asked).all()
        by_name: dict[str, list[Any]] = {}
        for row in rows:
            by_name.setdefault(row.name, []).append(row)
        return {
            name: _routing(name, rows)
            for name, rows in by_name.items()
            if any(row.alias == LIVE for row in rows)
        }

    def standing(self, name: str) -> Standing:
        """All that is kept of a name."""
        with self.catalogue.reading() as connection:
            return _standing(connection, name)

    def state(self, name: str) -> State | None:
        """The rollout of a name, also one that is over; None where there never was one."""
        rollout = self.standing(name).rollout
        return None if rollout is None else rollout.state

    def standings(self) -> list[Standing]:
        """Of every name that is or ever was live, by name."""
        with self.catalogue.reading() as connection:
            names = connection.execute(sql.select(BOARD.c.name).order_by(BOARD.c.name)).scalars()
            return [_standing(connection, name) for name in names.all()]

    def states(self) -> list[State]:
        """All rollouts, by name."""
        return [kept.rollout.state for kept in self.standings() if kept.rollout is not None]

    def begin(self, rollout: Rollout, actions: Actions, *, actor: str, reason: str = "") -> None:
        """Keeps a rollout that starts.

        Raises:
            RegistryConflictError: another one is under way, a split or an ensemble answers, or the
                live version is not the one it was started against.
        """
        state = rollout.state
        with self.catalogue.change() as change:
            kept = _standing(change.connection, state.name)
            _check_over(kept)
            if kept.route is not None:
                raise RegistryConflictError(
                    f"{state.name}: {' and '.join(kept.route.versions)} answer together",
                    hint=f"`xlmr rollout single {state.name}` ends that",
                )
            _check_live(state.name, kept.live, state.live)
            self._note(change, rollout, actions, actor=actor, reason=reason, begun=True)
            self._write(change, rollout)

    def save(
        self,
        state: State,
        actions: Actions,
        *,
        expected: State,
        actor: str,
        look: Look | None = None,
    ) -> None:
        """Keeps the next state of a rollout, moves the alias if it says so, and notes both.

        Args:
            state: to be.
            actions: what it goes with: notes and moves are carried out here, others by whoever
                follows the table.
            expected: the state that this one follows.
            actor: who, for the journal.
            look: what led to it.

        Raises:
            RegistryConflictError: somebody else changed the rollout, or the alias, first.
        """
        with self.catalogue.change() as change:
            kept = _standing(change.connection, state.name)
            rollout = msgspec.structs.replace(_same(kept, expected), state=state, look=look)
            self._note(change, rollout, actions, actor=actor)
            self._write(change, rollout)
            for action in actions:
                if isinstance(action, SetLive):
                    self._set_live(change, rollout, action, kept.live, actor=actor)

    def keep_look(
        self, state: State, actions: Actions, *, said: str, now: float, actor: str
    ) -> bool:
        """Notes a look that changed nothing, unless the last one that was noted will do.

        Args:
            state: it was about.
            actions: of which the notes are written.
            said: its outcome and first reason.
            now: seconds since 1970.
            actor: who looked.

        Raises:
            RegistryConflictError: somebody else changed the rollout first.
        """
        with self.catalogue.change() as change:
            rollout = _same(_standing(change.connection, state.name), state)
            look = next_look(rollout.look, said, now)
            if look is None:
                return False
            rollout = msgspec.structs.replace(rollout, look=look)
            self._note(change, rollout, actions, actor=actor)
            change.connection.execute(
                sql.update(BOARD)
                .where(BOARD.c.name == state.name)
                .values(rollout=rollout_text(rollout))
            )
        return True

    def set_route(
        self,
        name: str,
        route: Weighted | Ensemble | None,
        *,
        reason: str,
        actor: str,
        evidence: str = "",
        override: bool = False,
    ) -> None:
        """Several versions answer from now on, or the live one alone.

        Args:
            name: of the model.
            route: A/B or ensemble; None for the live version.
            reason: why, for the journal.
            actor: who.
            evidence: digest of the reports by which versions may answer; empty for none.
            override: whether some may answer although no report allows it.

        Raises:
            RegistryConflictError: a rollout is under way.
            RegistryError: nothing is live, or a version is not there.
        """
        with self.catalogue.change() as change:
            kept = _standing(change.connection, name)
            _check_over(kept)
            if not kept.live:
                raise RegistryError(f"{name}: nothing is live", hint="promote a version first")
            line = Line(
                actor=actor,
                action="route",
                name=name,
                version=int(kept.live),
                evidence=evidence,
                reason=reason,
                override=override,
                detail=json.dumps(route_to_json(route or Single(kept.live))),
            )
            change.note(line)
            self._put(
                change,
                name,
                route.versions if route else (),
                rollout=rollout_text(kept.rollout),
                route=route_text(route, kept.live),
            )

    def _set_live(
        self, change: Change, rollout: Rollout, move: SetLive, live: str, *, actor: str
    ) -> None:
        """Moves the alias; one that somebody moved meanwhile is not brought back from there."""
        state = rollout.state
        back = state.phase == "rolled_back"
        if live == move.version or (back and live != move.instead_of):
            return
        _check_live(state.name, live, move.instead_of)
        version = change.version(state.name, int(move.version))
        if version is None or version.removed_us:
            raise RegistryConflictError(f"{state.name}@{move.version} was removed meanwhile")
        change.set_alias(state.name, LIVE, version.version, expected=int(live))
        self._step("alias set")
        line = Line(
            actor=actor,
            action=BACK if back else FORWARD,
            name=state.name,
            alias=LIVE,
            version=version.version,
            previous=int(live),
            digest=version.digest,
            reason=state.sentence,
        )
        forward = replace(line, evidence=rollout.evidence, override=rollout.override)
        change.note(line if back else forward)

    def _note(
        self,
        change: Change,
        rollout: Rollout,
        actions: Actions,
        *,
        actor: str,
        reason: str = "",
        begun: bool = False,
    ) -> None:
        state = rollout.state
        candidate = change.version(state.name, int(state.candidate))
        line = Line(
            actor=actor,
            action="",
            name=state.name,
            version=int(state.candidate),
            previous=int(state.live),
            digest=candidate.digest if candidate else "",
            evidence=rollout.evidence if begun else "",
            override=rollout.override and begun,
        )
        for note in actions:
            if isinstance(note, Note):
                said, detail = reason or note.sentence, json.dumps(note.evidence)
                change.note(replace(line, action=note.event, reason=said, detail=detail))
                self._step("noted")

    def _write(self, change: Change, rollout: Rollout) -> None:
        state = rollout.state
        versions = () if state.over else (state.live, state.candidate)
        self._put(change, state.name, versions, rollout=rollout_text(rollout), route="")

    def _put(
        self, change: Change, name: str, versions: Collection[str], *, rollout: str, route: str
    ) -> None:
        digests = {}
        for number in versions:
            version = change.version(name, int(number))
            if version is None or version.removed_us:
                raise RegistryError(f"{name}@{number}: there is no such version any more")
            digests[number] = version.digest
        change.touch(name)
        values = {"rollout": rollout, "route": route, "digests": json.dumps(digests)}
        change.connection.execute(sql.update(BOARD).where(BOARD.c.name == name).values(**values))
        self._step("row written")


def _standing(connection: Connection, name: str) -> Standing:
    row = connection.execute(sql.select(BOARD).where(BOARD.c.name == name)).one_or_none()
    asked = sql.select(ALIASES.c.version).where(ALIASES.c.name == name, ALIASES.c.alias == LIVE)
    live = str(connection.execute(asked).scalar() or "")
    if row is None:
        return Standing(name=name, live=live, rollout=None, route=None)
    route = read_route(row.route, live)
    return Standing(name=name, live=live, rollout=read_rollout(row.rollout), route=route)


def _routing(name: str, rows: list[Any]) -> Routing:
    aliases = {row.alias: str(row.version) for row in rows}
    digests = {str(row.version): row.digest for row in rows}
    first = rows[0]
    rollout = read_rollout(first.rollout or "")
    return derive(
        name,
        aliases=aliases,
        digests=read_digests(first.digests or "") | digests,
        revision=first.revision or 0,
        state=None if rollout is None else rollout.state,
        route=read_route(first.route or "", aliases[LIVE]),
    )


def _same(kept: Standing, expected: State) -> Rollout:
    """The rollout that is kept, if it is in this state still."""
    rollout = kept.rollout
    if rollout is None or (rollout.state.salt, rollout.state.revision) != (
        expected.salt,
        expected.revision,
    ):
        raise RegistryConflictError(
            f"{kept.name}: somebody else changed the rollout first", hint="look at it again"
        )
    return rollout


def _check_over(kept: Standing) -> None:
    if kept.rollout is None or kept.rollout.state.over:
        return
    state = kept.rollout.state
    ends = "`xlmr rollout abort` takes it back"
    if state.phase == "watching":
        ends = f"wait until the window closes; {ends}, `xlmr registry alias` goes past it"
    raise RegistryConflictError(
        f"{kept.name}: the rollout of {state.candidate} is {state.phase}", hint=ends
    )


def _check_live(name: str, live: str, expected: str) -> None:
    if live != expected:
        raise RegistryConflictError(
            f"{name}@live is {f'version {live}' if live else 'nothing'} by now, not {expected}",
            hint="somebody else changed it first; look at it, and decide again",
        )
