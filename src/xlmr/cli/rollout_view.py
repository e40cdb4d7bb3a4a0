"""What `xlmr rollout` shows: where a rollout stands, what was counted, and what it proves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from xlmr.registry.rollout.burn import PAIRS, Burn
from xlmr.registry.rollout.comparisons import Finding
from xlmr.registry.rollout.controller import Seen
from xlmr.registry.rollout.evidence import EVENTS, Counts, Evidence
from xlmr.registry.rollout.state import State
from xlmr.registry.rollout.verdict import Verdict

_BAR = 30
_STYLES = {"abort": "bold red", "advance": "green", "inconclusive": "bold yellow"}


def seen_json(seen: Seen) -> dict[str, Any]:
    """A look as plain values: for `--json`."""
    state, judged = seen.rollout.state, seen.judged
    return {
        "name": state.name,
        "live": state.live,
        "candidate": state.candidate,
        "phase": state.phase,
        "stage": _stage(state),
        "share": _share(state),
        "elapsed_s": state.elapsed_s(seen.now),
        "undecided": state.undecided,
        "sentence": sentence(seen),
        "salt": state.salt,
        "look": None if judged is None else judged.to_json(),
        "counts": seen.evidence.to_json(),
    }


def sentence(seen: Seen) -> str:
    """What the present look says, or why it is over."""
    return seen.rollout.state.sentence if seen.judged is None else seen.judged.sentence


def stage_line(state: State, now: float) -> str:
    """Where a rollout stands, in a line."""
    where = f"{state.name}: {state.live} → {state.candidate}"
    since = f"for {duration(state.elapsed_s(now))}"
    if state.phase != "running":
        return f"{where}, {state.phase.replace('_', ' ')} {since}"
    undecided = ", undecided" if state.undecided else ""
    number = f"stage {state.step + 1} of {len(state.plan.stages)}"
    return f"{where}, {_stage(state)} ({number}) {since}{undecided}"


def rollout_view(seen: Seen, *, bars: bool) -> RenderableType:
    """A look for people.

    Args:
        seen: the look.
        bars: whether evidence is drawn against its thresholds.
    """
    state, judged = seen.rollout.state, seen.judged
    style = _STYLES.get(judged.outcome, "") if isinstance(judged, Verdict) else ""
    shown: list[RenderableType] = [
        Text(stage_line(state, seen.now), style="bold"),
        Text(f"  {sentence(seen)}", style=style),
    ]
    if any(seen.evidence.arms.values()):
        shown.append(_counts_table(seen.evidence))
    if isinstance(judged, Verdict):
        shown.append(_findings_table(judged.findings, bars=bars))
    elif isinstance(judged, Burn):
        shown.append(_rates_table(judged, bars=bars))
    return Group(*shown)


def duration(seconds: float) -> str:
    """A time that has passed, in words."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 180 else f"{minutes // 60} h {minutes % 60} min"


def _stage(state: State) -> str:
    return state.plan.stages[state.step].name if state.phase == "running" else state.phase


def _share(state: State) -> float:
    """Of the answers that callers see, the candidate's."""
    if state.phase == "running":
        stage = state.plan.stages[state.step]
        return 0.0 if stage.shadow else stage.share
    return 1.0 if state.phase in ("watching", "done") else 0.0


def _counts_table(evidence: Evidence) -> Table:
    """Units and events by arm, all languages first."""
    rows = list(_count_rows(evidence))
    events = [event for event in EVENTS if any(event in counts.events for _, _, counts in rows)]
    table = Table("arm", "language", "units", *events, box=None, pad_edge=False, padding=(0, 2))
    for column in table.columns[2:]:
        column.justify = "right"
    for arm, language, counts in rows:
        numbers = [counts.units, *(counts.events.get(event, 0) for event in events)]
        table.add_row(arm, language, *(f"{number:,}" for number in numbers))
    return table


def _count_rows(evidence: Evidence) -> Iterator[tuple[str, str, Counts]]:
    for arm, languages in sorted(evidence.arms.items()):
        yield arm, "all", sum(languages.values(), Counts())
        if len(languages) > 1:
            for language, counts in sorted(languages.items()):
                yield arm, language, counts


def _findings_table(findings: tuple[Finding, ...], *, bars: bool) -> Table:
    """Every comparison, by how near it is to its threshold."""
    table = Table("test", "language", "candidate", "live", box=None, pad_edge=False, padding=(0, 2))
    table.add_column("e-value", justify="right")
    table.add_column("of", justify="right")
    if bars:
        table.add_column("evidence")
    for found in sorted(findings, key=lambda f: f.log_e / f.threshold, reverse=True):
        row: list[RenderableType] = [
            found.test,
            found.language or "all",
            f"{found.candidate:,}/{found.candidate_units:,}",
            f"{found.live:,}/{found.live_units:,}",
            _e_value(found.log_e),
            _e_value(found.threshold),
        ]
        if bars:
            row.append(_bar(found.log_e / found.threshold, hot=found.proven))
        table.add_row(*row)
    return table


def _rates_table(burn: Burn, *, bars: bool) -> Table:
    """Burn rates of each pair of windows, against what both of them must reach."""
    table = Table("window", "burn rate", "of", box=None, pad_edge=False, padding=(0, 2))
    if bars:
        table.add_column("evidence")
    for pair in PAIRS:
        for seconds in (pair.long_s, pair.short_s):
            rate = burn.rates.get(seconds, 0.0)
            row: list[RenderableType] = [f"{seconds // 60} min", f"{rate:.1f}", f"{pair.rate:g}"]
            if bars:
                row.append(_bar(rate / pair.rate, hot=burn.breached == pair))
            table.add_row(*row)
    return table


def _bar(part: float, *, hot: bool) -> ProgressBar:
    style = "red" if hot else "yellow" if part >= 0.5 else "green"
    done = min(1.0, max(0.0, part))
    return ProgressBar(1.0, done, width=_BAR, complete_style=style, finished_style=style)


def _e_value(log_e: float) -> str:
    if log_e >= math.log(1e9):
        return "> 1e9"
    value = math.exp(log_e)
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.2g}"
