"""What `xlmr registry` prints for people: versions, a version, the journal, moments and sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from xlmr.registry.journal import Entry
from xlmr.registry.lineage import told_by
from xlmr.registry.manifest import Manifest
from xlmr.registry.tables import Alias, Version


def print_table(table: Table) -> None:
    """As wide as it is where nobody watches, so that nothing is cut in a file."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=500)
    console.print(table)


def versions_table(versions: Sequence[Version], aliases: Sequence[Alias]) -> Table:
    """A line for each version."""
    table = Table("version", "aliases", "pushed", "by", "digest", box=None, pad_edge=False)
    for version in versions:
        of = (version.name, version.version)
        named = ", ".join(a.alias for a in aliases if (a.name, a.version) == of)
        table.add_row(
            f"{version.name}@{version.version}",
            "removed" if version.removed_us else named,
            when(version.pushed_us),
            version.pushed_by,
            version.digest[:12],
        )
    return table


def print_card(card: str) -> None:
    """A model card as it is meant to be read; its front matter as it stands."""
    console = Console(highlight=False)
    front, text = _front_and_text(card)
    if front:
        console.print(Text(shown(front), style="dim"))
    console.print(Markdown(shown(text)))


def version_lines(
    version: Version,
    manifest: Manifest,
    *,
    evidence: Sequence[Entry] = (),
    parents: Sequence[Version] = (),
) -> Iterator[str]:
    """A version, line by line: what it is, where it comes from, what it went live by."""
    pushed = f"pushed {when(version.pushed_us)} by {version.pushed_by}"
    yield f"{version.name}@{version.version}, {pushed}"
    yield f"digest     {manifest.digest}"
    yield f"answers    {manifest.answers}"
    yield f"tokenizer  {manifest.tokenizer}"
    yield f"tasks      {', '.join(manifest.tasks)}"
    yield f"licence    {shown(manifest.license) or 'not stated'}"
    here = {each.answers: f" ({each.name}@{each.version})" for each in parents}
    for name, told in told_by(manifest.lineage):
        known = here.get(told.rpartition(" ")[2], "") if name == "parent" else ""
        yield f"{shown(name):<10} {shown(told)}{known}"
    for line in evidence:
        why = f"OVERRIDE: {shown(line.reason)}" if line.override else line.evidence
        yield f"evidence   line {line.seq}, {moved_line(line)}: {why}"
    yield f"files      {len(manifest.files)}, {size_of(manifest.size_bytes)}"
    for entry in manifest.files:
        yield f"  {entry.sha256[:12]}  {size_of(entry.size):>9}  {entry.path}"


def journal_table(entries: Sequence[Entry]) -> Table:
    """A line for each line."""
    table = Table("line", "when", "who", "what", "why", "evidence", box=None, pad_edge=False)
    for entry in entries:
        why = shown(f"OVERRIDE: {entry.reason}" if entry.override else entry.reason)
        row = (when(entry.at_us), entry.actor, moved_line(entry), why, entry.evidence[:12])
        table.add_row(str(entry.seq), *row)
    return table


def moved_line(entry: Entry) -> str:
    """What was done, in a few words."""
    if not entry.alias:
        return f"{entry.action} {entry.name}@{entry.version}" if entry.name else entry.action
    to = str(entry.version) if entry.version else "none"
    return f"{entry.action} {entry.name}@{entry.alias}: {entry.previous or 'none'} → {to}"


def shown(said: str) -> str:
    """A word of somebody's without what would steer a terminal."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\ufffd" for sign in said)


def when(at_us: int) -> str:
    """A moment in UTC, to the second."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def size_of(size: float) -> str:
    """Bytes in words."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _front_and_text(card: str) -> tuple[str, str]:
    lines = card.splitlines()
    if lines and lines[0].strip() == "---" and "---" in lines[1:]:
        end = lines.index("---", 1)
        return "\n".join(lines[1:end]), "\n".join(lines[end + 1 :])
    return "", card
