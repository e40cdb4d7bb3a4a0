"""docs/serving-performance.md: what was measured, and with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

_HEAD = """# Performance of the server

Written by `make bench-serve`. Requests arrive as a Poisson process that waits for nobody, one text
each, of eleven languages and log-normal lengths; latency counts from arrival. *Kept* is the highest
rate at which 99 in 100 requests were answered within {objective:.0f} ms. *Beyond* is {overload:g}
times that rate: answers within {objective:.0f} ms as a share of the rate kept, and in what time
refusals came (99th percentile). Servers have the same model and take turns; the load comes from a
process of its own on the same processors. Rounds: {rounds} (medians), each rate for {seconds:g} s.
"""


def render(loads: Mapping[str, Any], cost: Mapping[str, Any] | None) -> str:
    """The page; shapes that were not measured are left out."""
    parts = []
    if loads:
        first = next(iter(loads.values()))
        rounds = len(next(iter(first["servers"].values())))
        parts.append(
            _HEAD.format(
                objective=first["objective_ms"],
                overload=first["overload"],
                rounds=rounds,
                seconds=first["seconds"],
            )
        )
        parts.append(_machine(first["machine"]))
    for shape, load in loads.items():
        parts.append(f"## {shape}, random weights\n\n" + _table(load["servers"]))
    if cost is not None:
        parts.append(_cost(cost))
    return "\n".join(parts)


def _machine(machine: Mapping[str, Any]) -> str:
    rows = [f"| {key.replace('_', ' ')} | {_shown(value)} |" for key, value in machine.items()]
    return "\n".join(["| | |", "|---|---|", *rows, ""])


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _table(servers: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    lines = [
        "| server | kept, requests/s | p50 | p95 | p99 | beyond: good | refused in |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    kept = {name: median(t["highest_rate"] for t in turns) for name, turns in servers.items()}
    for name, turns in servers.items():
        best = max(turns, key=lambda turn: turn["highest_rate"])
        level, beyond = best["kept"] or {}, best["beyond"] or {}
        good = beyond.get("good")
        shown = [
            _ms(level.get("p50")),
            _ms(level.get("p95")),
            _ms(level.get("p99")),
            "–" if good is None else f"{good / best['highest_rate']:.0%}",
            _ms(beyond.get("refusal_p99")),
        ]
        lines.append(f"| {name} | {kept[name]:,.0f} | {' | '.join(shown)} |")
    others = [rate for name, rate in kept.items() if name != "xlmr"]
    if others and max(others) > 0 and "xlmr" in kept:
        lines.append(f"\nOurs over the best other: {kept['xlmr'] / max(others):.1f} ×.")
    return "\n".join(lines) + "\n"


def _cost(cost: Mapping[str, Any]) -> str:
    return f"""## What a request costs

Processor time of one request of one text over HTTP, cache off, log and metrics on, a tiny model on
one thread: {cost["server_us"]:,.0f} µs, of which {cost["tokenise_us"]:,.0f} are tokenising and
{cost["infer_us"]:,.0f} the engine and the head, by the clocks of the threads they run in. The rest,
**{cost["overhead_us"]:,.0f} µs**, is HTTP, JSON, admission, scheduling, language identification,
metrics and log. In the same minutes an empty server on the same parser and event loop took
{cost["empty_us"]:,.0f} µs a request. Medians of {cost["rounds"]} rounds of {cost["requests"]:,}
requests.
"""


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:,.0f} ms"
