"""What `xlmr top` draws of a glance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_MOST_LANGUAGES = 15


def top_view(shown: Mapping[str, Any], address: str) -> RenderableType:
    """A glance for people."""
    requests, latency = shown["requests"], shown["latency_ms"]
    head = Text.assemble(
        (address, "bold"),
        f"   {_number(requests['per_second'])} requests/s"
        f"   {_number(shown['tokens_per_second'])} tokens/s   ",
        (f"{requests['failed']:,.0f} failed", "bold red" if requests["failed"] else ""),
        f"   of {_seconds(shown['seconds'])}",
    )
    times = [f"{name} {_number(latency[name])} ms" for name in ("p50", "p95", "p99")]
    stages = [f"{name} {_number(ms)}" for name, ms in shown["stages_ms"].items() if ms is not None]
    lines = [Text(f"latency   {'   '.join(times)}")]
    if stages:
        lines.append(Text(f"stages    p95 in ms: {'   '.join(stages)}"))
    lines += [Text(f"{name:<9} {said}") for name, said in _lines(shown)]
    tables = [_models(shown["models"]), _languages(shown["languages"])]
    if shown["routes"]:
        tables.append(_table(("route", "arm", "requests"), (r.values() for r in shown["routes"])))
    return Group(head, Text(), *lines, Text(), Columns(tables, padding=(0, 4)))


def _lines(shown: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    queue, engine, memory = shown["queue"], shown["engine"], shown["memory"]
    refused = _pairs(queue["refused"])
    yield (
        "queue",
        f"{queue['requests']:.0f} requests, {queue['tokens']:.0f} tokens,"
        f" oldest {_seconds(queue['oldest_s'])}" + (f"   refused: {refused}" if refused else ""),
    )
    yield (
        "engine",
        f"{_percent(engine['busy'])} busy on {engine['threads']:.0f} threads"
        f"   {engine['faults']:.0f} faults   {engine['worker_restarts']:.0f} worker restarts",
    )
    limit = f" of {_bytes(memory['limit'])}" if memory["limit"] else ""
    resident = _pairs({name: _bytes(size) for name, size in memory["resident"].items()})
    yield "memory", f"{resident}   held {_bytes(memory['held'])}{limit}"
    if shown["cache_hits"] is not None:
        yield "cache", f"{_percent(shown['cache_hits'])} hits"
    if shown["registry_age_s"] is not None:
        yield "registry", f"read {_seconds(shown['registry_age_s'])} ago"
    if shown["shadow"]:
        yield "shadow", _pairs(shown["shadow"])
    bad = {code: n for code, n in shown["requests"]["codes"].items() if code != "ok" and n}
    if bad:
        yield "errors", _pairs(bad)


def _models(models: Iterable[Mapping[str, Any]]) -> Table:
    return _table(
        ("model", "state", "requests", "failed", "p50", "p95", "p99"),
        (
            (
                f"{m['model']}@{m['version']}",
                m["state"],
                m["requests"],
                m["failed"],
                *(_number(m[p]) for p in ("p50", "p95", "p99")),
            )
            for m in models
        ),
    )


def _languages(languages: list[Mapping[str, Any]]) -> Table:
    return _table(
        ("language", "texts", "confidence", "too unsure"),
        (
            (
                row["language"],
                row["texts"],
                _percent(row["confidence"]),
                _percent(row["abstained"]),
            )
            for row in languages[:_MOST_LANGUAGES]
        ),
    )


def _table(titles: tuple[str, ...], rows: Iterable[Iterable[Any]]) -> Table:
    table = Table(*titles, box=None, pad_edge=False, padding=(0, 2))
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*(v if isinstance(v, str) else f"{v:,.0f}" for v in row))
    return table


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v if isinstance(v, str) else f'{v:,.0f}'}" for k, v in values.items())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.0f} %"


def _seconds(value: float | None) -> str:
    if value is None:
        return "an unknown time"
    return f"{value:.3g} s" if value < 120 else f"{value / 60:,.0f} min"


def _bytes(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
