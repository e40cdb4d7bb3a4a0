"""A result as a table: for a terminal, and as Markdown for a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from xlmr.evaluation.speed.run import Result

# Wide enough for all peers; a narrower terminal breaks lines rather than words.
WIDTH = 112


def as_rich(result: Result) -> Table:
    """For a terminal: tokens a second; ours and the best peer of each row in bold."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("workload")
    for name in result.versions:
        table.add_column(name.replace(" ", "\n"), justify="right")
    table.add_column("ours /\nbest peer", justify="right")
    table.add_column("of the\nceiling", justify="right")
    for standing in result.standings:
        first = (result.ours, standing.best_peer)
        rates = [
            Text(f"{standing.scores[name].tokens_per_s:,.0f}", "bold" if name in first else "")
            for name in result.versions
        ]
        ratio = "–" if standing.ratio is None else f"{standing.ratio:.2f} ×"
        share = "–" if standing.ceiling_share is None else f"{standing.ceiling_share:.0%}"
        table.add_row(standing.workload, *rates, ratio, share)
    return table


def as_markdown(written: Mapping[str, Any]) -> str:
    """For a page, from `Result.to_json()`: tokens a second; ours in bold, the best peer named."""
    names = list(written["versions"])
    heads = ["workload", "tokens", *names, "ours / best peer", "of the ceiling"]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for workload, one in written["workloads"].items():
        rates = [f"{one['runtimes'][name]['tokens_per_s']:,.0f}" for name in names]
        rates[names.index(written["ours"])] = f"**{rates[names.index(written['ours'])]}**"
        ratio, share = one["ratio_to_best_peer"], one["ceiling_share"]
        cells = [
            workload,
            f"{one['tokens']:,}",
            *rates,
            "–" if ratio is None else f"{ratio:.2f} × {one['best_peer']}",
            "–" if share is None else f"{share:.0%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def origin(result: Result) -> str:
    """One line: machine, threads, date."""
    machine = result.machine
    return (
        f"{machine['processor']}, {result.plan.threads} of {machine['usable_cores']} cores, "
        f"{machine['kernels']} kernels, {result.date:%Y-%m-%d}"
    )
