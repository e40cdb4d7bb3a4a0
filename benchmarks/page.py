"""Measured JSON becomes docs/performance.md: nothing on that page is typed by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xlmr.evaluation.speed.table import as_markdown

_INTRODUCTION = """\
# Performance

Written by `make bench`; each table was measured in one run, all of them on the machine named below.

Only real tokens are counted: a runtime that pads computes more, and gets no credit for it. All
runtimes have the same weights and the same number of threads and take turns in one process, round
after round; *ours / best peer* is the median of the ratios within each round, so a machine that
drifts moves both sides. *Of the ceiling* is the work done for real tokens over what the processor's
dot-product instruction alone can do, measured between the turns. `8x32` is 8 texts of 32 tokens;
`mixed` is 32 texts of log-normal length, as online traffic is (median 25, 4 to 117 tokens)."""


def render(measured: Mapping[str, Any]) -> str:
    """The page.

    Args:
        measured: `shapes` (name → result of `xlmr bench engine --json`) and, where they were
            measured, `start`, `memory`, `neighbour` and `agreement`.
    """
    parts = [_INTRODUCTION]
    shapes: Mapping[str, Any] = measured.get("shapes", {})
    if shapes:
        parts.append(_origin(next(iter(shapes.values()))))
    for name, result in shapes.items():
        parts += list(_shape(name, result))
    sections = (
        ("start", _start),
        ("memory", _memory),
        ("neighbour", _neighbour),
        ("agreement", _agreement),
    )
    for key, section in sections:
        if key in measured:
            parts.append(section(measured[key]))
    return "\n\n".join(parts) + "\n"


def _origin(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    versions = {name.split()[0]: version for name, version in result["versions"].items()}
    rows = {
        "date": result["date"][:10],
        "processor": f"{machine['processor']}, {machine['usable_cores']} cores usable",
        "threads": result["threads"],
        "our kernels": machine["kernels"],
        "memory": f"{machine['memory_gib']} GiB",
        "system": f"{machine['system']}, Python {machine['python']}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _shape(name: str, result: Mapping[str, Any]) -> Iterator[str]:
    millions = result["operations_per_token"] / 1e6
    yield f"## {name}: real tokens a second"
    work = f"{millions:,.0f} million operations a token"
    yield f"{result['shape']}; {work}; ours {result['precision']}."
    yield as_markdown(result)
    if result["skipped"]:
        said = "; ".join(f"{peer}: {reason}" for peer, reason in result["skipped"].items())
        yield f"Not taking part: {said}."
    if "chart" in result:
        yield f"![real tokens a second by runtime and workload, {name}]({result['chart']})"


def _start(start: Mapping[str, float]) -> str:
    rows = {
        "model directory to first answer": sum(
            start[part] for part in ("tokenizer_s", "engine_s", "answer_s")
        ),
        "of that: configuration and tokenizer": start["tokenizer_s"],
        "of that: engine, from prepared weights": start["engine_s"],
        "of that: first answer": start["answer_s"],
        "imports before it": start["imports_s"],
        "whole process, from launch to exit": start["process_s"],
    }
    lines = [f"| {name} | {1000 * seconds:,.0f} ms |" for name, seconds in rows.items()]
    return "\n".join(
        [
            "## Start-up",
            "",
            "XLM-R base's shape, int8, all 250,002 pieces, page cache warm; median of launches.",
            "",
            "| | |",
            "|---|---:|",
            *lines,
        ]
    )


def _memory(memory: Mapping[str, Any]) -> str:
    rate = memory["tokens"] / memory["seconds"]
    lines = [
        f"| {one['requests']:,} | {one['resident_mib']:,.0f} | {one['anonymous_mib']:,.0f} |"
        for one in memory["samples"]
    ]
    return "\n".join(
        [
            "## Memory",
            "",
            "A server with XLM-R base's shape, int8, answering requests of random lengths"
            f" ({memory['requests']:,} requests, {memory['tokens']:,} tokens,"
            f" {rate:,.0f} tokens a second over HTTP). The answer cache is off; where it is on, it"
            " adds what it is allowed to hold.",
            "",
            "| requests answered | resident MiB | of that no mapped file |",
            "|---:|---:|---:|",
            *lines,
        ]
    )


def _neighbour(neighbour: Mapping[str, Any]) -> str:
    return "\n".join(
        [
            "## Beside another process",
            "",
            f"{neighbour['shape']}, int8, {neighbour['threads']} threads, beside a process that"
            " never rests: free to run anywhere, or tied to one processor. *Lost* is the share of"
            " their time in which our threads were ready to run and did not; *kept* is the speed"
            " for each share got, over the same alone: 100 % where nothing but the share was lost.",
            "",
            neighbour_table(neighbour),
        ]
    )


def neighbour_table(neighbour: Mapping[str, Any]) -> str:
    """What `measure_neighbour` returns, as Markdown."""
    lines = [
        f"| {one['workload']} | {one['neighbour']} | {one['tokens_per_s']:,.0f} |"
        f" {one['lost']:.0%} | {one['kept']:.0%} |"
        for one in neighbour["rows"]
    ]
    return "\n".join(
        [
            "| workload | neighbour | tokens a second | lost | kept |",
            "|---|---|---:|---:|---:|",
            *lines,
        ]
    )


def _agreement(agreement: Mapping[str, Any]) -> str:
    lines = [
        f"| {name} | {one['mean']:.5f} | {one['worst']:.5f} | {one['worst_language']} |"
        for name, one in agreement["runtimes"].items()
    ]
    return "\n".join(
        [
            "## Agreement with float32",
            "",
            "Cosine of the sentence vector to float32: the starter model,"
            f" {agreement['texts']} texts in {len(agreement['languages'])} languages,"
            " each computed alone.",
            "",
            "| runtime | mean | worst | in |",
            "|---|---:|---:|---|",
            *lines,
        ]
    )
