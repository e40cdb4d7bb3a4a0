"""What may be removed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xlmr.registry.journal import Entry, way_back
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
