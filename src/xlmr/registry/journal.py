"""The journal: who did what, when and why, each line bound to the one before. Pure.

A line's hash covers its fields and the hash of the line before it. Whoever edits, removes or
inserts a line breaks the chain there, and `check_chain` names the line. Somebody who can write to
the database could also compute every later hash anew: that is found by an anchor, the number and
hash of a line noted elsewhere (each backup holds one).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

from xlmr.errors import JournalError, RegistryError

GENESIS = "0" * 64
# What an alias goes forward by, goes back by, and is taken away by.
FORWARD, BACK, DROP = "alias", "rollback", "drop"
MOVES = (FORWARD, BACK, DROP)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What is noted.

    Attributes:
        actor: who.
        action: what: `push`, `alias`, `rollback`, `remove`, `restore`, …
        name: of the model.
        alias: which alias was changed; empty for none.
        version: which version it is about; 0 for none.
        previous: the version the alias named before; 0 for none.
        digest: of the version's tree; empty for none.
        evidence: digest of the report it rests on; empty for none.
        reason: why, in words.
        override: whether it was done although the evidence did not allow it.
        detail: more, as JSON; empty for none.
    """

    actor: str
    action: str
    name: str = ""
    alias: str = ""
    version: int = 0
    previous: int = 0
    digest: str = ""
    evidence: str = ""
    reason: str = ""
    override: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Line):
    """A line as it stands in the journal.

    Attributes:
        seq: its number, from 1 on without gaps.
        at_us: when, in microseconds since 1970 UTC; never before the line above.
        hash: SHA-256, hex, of the hash above and all fields.
    """

    seq: int
    at_us: int
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """The last line: its number, time and hash."""

    seq: int = 0
    at_us: int = 0
    hash: str = GENESIS


def next_entry(line: Line, head: Head, *, now_us: int) -> Entry:
    """The line that follows a head. A clock that went backwards does not reorder the journal.

    Raises:
        RegistryError: a word holds signs that no database stores.
    """
    for name, said in asdict(line).items():
        if isinstance(said, str) and _UNSTORABLE.search(said):
            raise RegistryError(f"the journal's {name}: holds a zero byte or broken UTF-8")
    seq, at_us = head.seq + 1, max(now_us, head.at_us)
    values = asdict(line) | {"seq": seq, "at_us": at_us}
    return Entry(**values, hash=_hash(values, head.hash))


def head_of(entry: Entry) -> Head:
    """The head that an entry makes."""
    return Head(entry.seq, entry.at_us, entry.hash)


def check_chain(
    entries: Iterable[Entry], head: Head, *, anchor: tuple[int, str] | None = None
) -> int:
    """That a whole journal is as it was written; how many lines it has.

    Args:
        entries: all lines, by number.
        head: what the catalogue noted as the last line.
        anchor: number and hash of a line as they were noted elsewhere.

    Raises:
        JournalError: a line was edited, removed or inserted; names it.
    """
    above = Head()
    for entry in entries:
        if entry.seq != above.seq + 1:
            raise JournalError(f"journal line {above.seq + 1} is missing")
        values = {f.name: getattr(entry, f.name) for f in fields(entry) if f.name != "hash"}
        if entry.hash != _hash(values, above.hash):
            raise JournalError(
                f"journal line {entry.seq} was edited, or does not follow line {above.seq}",
                hint="compare it with a backup's; nothing after it can be relied upon",
            )
        if anchor is not None and entry.seq == anchor[0] and entry.hash != anchor[1]:
            raise JournalError(f"journal line {entry.seq} is not the one that was noted")
        above = head_of(entry)
    if anchor is not None and above.seq < anchor[0]:
        raise JournalError(f"the journal ends at line {above.seq}: line {anchor[0]} was noted once")
    if (above.seq, above.hash) != (head.seq, head.hash):
        raise JournalError(
            f"the journal ends at line {above.seq}, its head tells of line {head.seq}",
            hint="lines were removed from its end, or the head was edited",
        )
    return above.seq


def trail(entries: Iterable[Line]) -> list[int]:
    """The versions an alias went through to where it stands, the present one last.

    Going forward adds to the trail, going back shortens it: going back twice leads two steps back,
    never to and fro.
    """
    steps: list[int] = []
    for entry in entries:
        if entry.action == BACK and entry.version in steps:
            del steps[len(steps) - steps[::-1].index(entry.version) :]
        elif entry.action in (FORWARD, BACK) and (not steps or steps[-1] != entry.version):
            steps.append(entry.version)
    return steps


def way_back(entries: Sequence[Line], *, gone: frozenset[int] = frozenset()) -> int | None:
    """The version a rollback leads to: the last on the trail before the present, and not gone."""
    steps = trail(entries)
    for version in reversed(steps[:-1]):
        if version and version not in gone and version != steps[-1]:
            return version
    return None


def _hash(values: dict[str, object], above: str) -> str:
    canonical = json.dumps(values, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(f"{above}\n{canonical}".encode()).hexdigest()
