"""An edited, removed or inserted line is found and named; ways back never go to and fro."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xlmr.errors import JournalError
from xlmr.registry.journal import (
    BACK,
    DROP,
    FORWARD,
    Entry,
    Head,
    Line,
    check_chain,
    head_of,
    next_entry,
    trail,
    way_back,
)


def journal(count: int = 5) -> tuple[list[Entry], Head]:
    head, entries = Head(), []
    for number in range(1, count + 1):
        line = Line(actor="ada", action="push", name="router", version=number, reason="because")
        entries.append(next_entry(line, head, now_us=1_000 * number))
        head = head_of(entries[-1])
    return entries, head


def test_what_was_written_holds() -> None:
    entries, head = journal()
    assert check_chain(entries, head) == 5
    assert check_chain([], Head()) == 0
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "edit",
    [
        {"actor": "eve"},
        {"version": 9},
        {"reason": "because."},
        {"override": True},
        {"at_us": 3_001},
        {"evidence": "0" * 64},
        {"hash": "0" * 64},
    ],
)
def test_an_edited_line_is_named(edit: dict[str, object]) -> None:
    entries, head = journal()
    entries[2] = replace(entries[2], **edit)  # type: ignore[arg-type]
    with pytest.raises(JournalError, match="line 3 was edited"):
        check_chain(entries, head)


def test_a_line_that_is_gone_or_too_many_is_named() -> None:
    entries, head = journal()
    with pytest.raises(JournalError, match="line 2 is missing"):
        check_chain([entries[0], *entries[2:]], head)
    with pytest.raises(JournalError, match="line 1 is missing"):
        check_chain(entries[1:], head)
    with pytest.raises(JournalError, match="ends at line 4, its head tells of line 5"):
        check_chain(entries[:4], head)
    renumbered = [entries[0], *(replace(e, seq=e.seq - 1) for e in entries[2:])]
    with pytest.raises(JournalError, match="line 2 was edited"):
        check_chain(renumbered, head)


def test_a_journal_written_anew_is_found_by_an_anchor() -> None:
    entries, _ = journal()
    head, forged = Head(), []
    for entry in entries:
        line = Line(actor="eve", action="push", name="router", version=entry.version)
        forged.append(next_entry(line, head, now_us=entry.at_us))
        head = head_of(forged[-1])
    assert check_chain(forged, head) == 5  # it is whole in itself
    with pytest.raises(JournalError, match="line 4 is not the one that was noted"):
        check_chain(forged, head, anchor=(4, entries[3].hash))
    with pytest.raises(JournalError, match="line 5 was noted once"):
        check_chain(entries[:3], head_of(entries[2]), anchor=(5, entries[4].hash))


def test_a_clock_that_goes_back_does_not_reorder() -> None:
    entry = next_entry(Line(actor="a", action="push"), Head(3, 5_000, "1" * 64), now_us=10)
    assert (entry.seq, entry.at_us) == (4, 5_000)


def moves(*steps: tuple[str, int]) -> list[Line]:
    return [Line(actor="a", action=action, version=version) for action, version in steps]


def test_going_back_twice_leads_two_steps_back() -> None:
    up = [(FORWARD, 1), (FORWARD, 2), (FORWARD, 3)]
    assert trail(moves(*up)) == [1, 2, 3]
    assert way_back(moves(*up)) == 2
    assert way_back(moves(*up, (BACK, 2))) == 1
    assert way_back(moves(*up, (BACK, 2), (FORWARD, 4))) == 2
    assert way_back(moves(*up, (BACK, 1))) is None
    assert way_back(moves((FORWARD, 1))) is None
    assert way_back([]) is None


def test_the_way_back_leaves_out_what_is_gone() -> None:
    lines = moves((FORWARD, 1), (FORWARD, 2), (FORWARD, 2), (FORWARD, 3), ("look", 7))
    assert way_back(lines, gone=frozenset([2])) == 1
    assert way_back(lines, gone=frozenset([1, 2])) is None
    # An alias that was taken away and given again may go back to what it was.
    assert way_back(moves((FORWARD, 1), (DROP, 0), (FORWARD, 2))) == 1
