"""All that a catalogue holds at one moment, and whether it agrees with its journal. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from xlmr.errors import JournalError
from xlmr.registry.journal import MOVES, Entry, Head, check_chain
from xlmr.registry.rollout.journalled import check_boards
from xlmr.registry.tables import Alias, Board, Counted, Minute, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A catalogue's rows.

    Attributes:
        boards: rollouts and routes.
        counts, minutes: what servers counted for them, as far as they count here.
    """

    versions: tuple[Version, ...]
    aliases: tuple[Alias, ...]
    entries: tuple[Entry, ...]
    head: Head
    boards: tuple[Board, ...]
    counts: tuple[Counted, ...]
    minutes: tuple[Minute, ...]

    @property
    def kept(self) -> list[Version]:
        """Versions whose content is there."""
        return [version for version in self.versions if not version.removed_us]

    def check(self, *, anchor: tuple[int, str] | None = None) -> int:
        """That the journal is whole and every row is what it says; how many lines it has.

        Counts are in no journal.

        Raises:
            JournalError: a line or a row was edited; names it.
        """
        lines = check_chain(self.entries, self.head, anchor=anchor)
        self._check_versions()
        self._check_aliases()
        check_boards(self.boards, self.versions, self.entries)
        return lines

    def _check_versions(self) -> None:
        pushed = {(e.name, e.version): e for e in self.entries if e.action == "push"}
        removed = {(e.name, e.version): e.at_us for e in self.entries if e.action == "remove"}
        rows = {(v.name, v.version): v for v in self.versions}
        for key in sorted(pushed.keys() | rows.keys()):
            line, row = pushed.get(key), rows.get(key)
            told = line and (line.digest, line.at_us, line.actor, removed.get(key, 0))
            if told != (row and (row.digest, row.pushed_us, row.pushed_by, row.removed_us)):
                raise JournalError(f"{key[0]}@{key[1]} is not what the journal says was pushed")

    def _check_aliases(self) -> None:
        named: dict[tuple[str, str], int] = {}
        for entry in self.entries:
            if entry.action in MOVES:
                named[entry.name, entry.alias] = entry.version
        said = {key: version for key, version in named.items() if version}
        found = {(a.name, a.alias): a.version for a in self.aliases}
        for name, alias in sorted(said.keys() | found.keys()):
            if said.get((name, alias)) != found.get((name, alias)):
                now, then = found.get((name, alias), 0), said.get((name, alias), 0)
                raise JournalError(
                    f"{name}@{alias} is version {now}, and the journal says {then}",
                    hint="somebody edited the table; `xlmr registry alias` sets it right",
                )
