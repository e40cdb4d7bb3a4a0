"""What may be removed, and whether the catalogue agrees with its journal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xlmr.errors import JournalError
from xlmr.registry.journal import MOVES, Entry, Head, check_chain, way_back
from xlmr.registry.tables import Alias, Version

DAY_US = 86_400 * 1_000_000
Key = tuple[str, int]


def removable(
    versions: Sequence[Version],
    aliases: Iterable[Alias],
    entries: Sequence[Entry],
    *,
    now_us: int,
    days: float,
    routed: Iterable[Key] = (),
) -> list[Version]:
    """Versions that no alias names, no way back leads to and no line of the last `days` names.

    `routed` are those that a rollout or a route names: they stay too.
    """
    kept: set[Key] = {(alias.name, alias.version) for alias in aliases} | set(routed)
    gone = {(v.name, v.version) for v in versions if v.removed_us}
    for name, alias in {(entry.name, entry.alias) for entry in entries if entry.alias}:
        moves = [entry for entry in entries if (entry.name, entry.alias) == (name, alias)]
        there = frozenset(version for of, version in gone if of == name)
        back = way_back(moves, gone=there)
        if back is not None:
            kept.add((name, back))
    for entry in entries:
        if entry.at_us > now_us - days * DAY_US:
            kept |= {(entry.name, entry.version), (entry.name, entry.previous)}
    return [v for v in versions if not v.removed_us and (v.name, v.version) not in kept]


def check_catalogue(
    versions: Sequence[Version],
    aliases: Sequence[Alias],
    entries: Sequence[Entry],
    head: Head,
    *,
    anchor: tuple[int, str] | None = None,
) -> int:
    """That the journal is whole and every row is what it says; how many lines it has.

    Raises:
        JournalError: a line or a row was edited; names it.
    """
    lines = check_chain(entries, head, anchor=anchor)
    pushed = {(e.name, e.version): e for e in entries if e.action == "push"}
    removed = {(e.name, e.version): e.at_us for e in entries if e.action == "remove"}
    rows = {(v.name, v.version): v for v in versions}
    for key in sorted(pushed.keys() | rows.keys()):
        line, row = pushed.get(key), rows.get(key)
        told = line and (line.digest, line.at_us, line.actor, removed.get(key, 0))
        if told != (row and (row.digest, row.pushed_us, row.pushed_by, row.removed_us)):
            raise JournalError(f"{key[0]}@{key[1]} is not what the journal says was pushed")
    named: dict[tuple[str, str], int] = {}
    for entry in entries:
        if entry.action in MOVES:
            named[entry.name, entry.alias] = entry.version
    said = {key: version for key, version in named.items() if version}
    found = {(a.name, a.alias): a.version for a in aliases}
    for name, alias in sorted(said.keys() | found.keys()):
        if said.get((name, alias)) != found.get((name, alias)):
            raise JournalError(
                f"{name}@{alias} is version {found.get((name, alias), 0)}, and the journal says "
                f"{said.get((name, alias), 0)}",
                hint="somebody edited the table; `xlmr registry alias` sets it right",
            )
    return lines
