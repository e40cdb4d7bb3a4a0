"""A bar appears after two seconds where somebody watches, and nowhere else."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from xlmr.cli.progress import TokenBar


def clock(*times: float) -> Iterator[float]:
    yield from times
    while True:
        yield times[-1]


@pytest.mark.parametrize(
    ("terminal", "seconds", "shown"), [(True, 3.0, True), (True, 1.0, False), (False, 3.0, False)]
)
def test_it_waits_and_looks_first(terminal: bool, seconds: float, shown: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    ticks = clock(0.0, seconds)
    with TokenBar("scoring", console=console, clock=lambda: next(ticks)) as bar:
        bar.advance(done=0.5, tokens=600, note="loss 0.1")
    output = console.file
    assert isinstance(output, io.StringIO)
    assert ("scoring" in output.getvalue()) is shown
    if shown:
        assert "200 tokens/s loss 0.1" in output.getvalue()
    assert (bar.tokens, bar.seconds) == (600, seconds)
