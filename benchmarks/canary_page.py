"""docs/canaries.md: how each rollout ended, with what it was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_HEAD = """# Rollouts of good and faulty versions

Written by

    PYTHONPATH=. python benchmarks/canaries.py build/starter --json canaries.json \\
        --page docs/canaries.md

with real servers, commands and model directories; `--quick` is a short one of it. Versions are
small routers with random weights and the whole vocabulary of XLM-R, {LAYERS} layers, int8. The load
waits for nobody: one text a request, eleven languages, lengths log-normal about 16 words, each
request with an id of its own, no answer from a cache; its process has the same processors.
"""

_ROLLOUTS = """## How each ended

{rate:.0f} requests a second to one server on SQLite. Each version is rolled out twice: through a
shadow first, and without one, where callers meet it at once; the good one goes the whole way.
Plan: objective {objective_ms:g} ms, margin {margin} (minutes prove less than hours), steps of
{steps}, languages `en` and `th`. No file makes the engine fail in one language: a wrapper around
the runtime does that. Everything else is in the files, which pass the proof at load. *Copies* were
read in the shadow; *caught* are failures of the candidate in whose place the live version answered.
{requests:,} requests in all, **{lost} lost**.

| candidate | | ended | at | seconds | requests | by the candidate | copies | caught | lost |
|---|---|---|---|---:|---:|---:|---:|---:|---:|
"""

_LATENCY = """
What the live version's callers waited, in milliseconds: in the {calm:.0f} s before a rollout, while
the server loaded and proved the candidate, and from then on to the end; the last row is all of them
together. The load was {late_ms:.0f} ms late at most.

| candidate | | p50 before | loading | then | p95 | loading | then | p99 | loading | then |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""

_SERVERS = """## Two servers, PostgreSQL and Redis

{rate:.0f} requests a second to both together, {requests:,} in all, **{lost} lost**. Seconds from
the moment a change was kept (a verdict: by a server) until every server answered by the right
version, and none by another:

| change | times | median | worst |
|---|---:|---:|---:|
"""

_CHANGES = {
    "promotion": "`xlmr registry alias`",
    "rollback": "`xlmr registry rollback`",
    "verdict": "a rollout's verdict: back",
}

_AWAY = """
PostgreSQL stopped for {seconds:.0f} s under that load: {requests:,} requests, **{lost} lost**, all
answered by the live version{others}; p50, p95 and p99 {p50_ms:.1f}, {p95_ms:.1f} and
{p99_ms:.1f} ms, before all this {before[p50_ms]:.1f}, {before[p95_ms]:.1f} and
{before[p99_ms]:.1f} ms. A promotion made as soon as it was back reached both servers within
{followed_after_s:.1f} s.
"""


def render(found: Mapping[str, Any]) -> str:
    """The page; a part that was not measured is left out."""
    from canary_models import LAYERS

    parts = [_HEAD.format(LAYERS=LAYERS), _machine(found)]
    if "rollouts" in found:
        parts.append(_rollouts(found["rollouts"]))
    if "servers" in found:
        parts.append(_servers(found["servers"]))
    return "\n".join(parts)


def _machine(found: Mapping[str, Any]) -> str:
    machine = found["machine"]
    rows = {
        "date": found["date"],
        "processor": f"{machine['processor']}, {machine['usable_cores']} cores usable",
        "memory": f"{machine['memory_gib']} GiB",
        "system": f"{machine['system']}, Python {machine['python']}",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items()), ""])


def _rollouts(measured: Mapping[str, Any]) -> str:
    rollouts = measured["rollouts"]
    rows = [
        f"| {one['says']} | {_WAYS[one['way']]} | **{one['ended']}** | {one['stage']} | "
        f"{one['seconds']:.0f} | {one['requests']:,} | {one['by_candidate']:,} | "
        f"{one['copies']:,} | {one['rescued']:,} | {one['lost']} |"
        for one in rollouts
    ]
    waits = [
        f"| {one['says']} | {_WAYS[one['way']]} | {' | '.join(_waits(one))} |" for one in rollouts
    ]
    said = [f"- {one['says']}, {_WAYS[one['way']]}: “{one['sentence']}”" for one in rollouts]
    waits.append(f"| all | | {' | '.join(_waits(measured))} |")
    margin = f"{measured['margin'] * 100:g} %"
    began, ended = rollouts[0]["calm_between"]
    return "\n".join(
        [
            _ROLLOUTS.format(**measured | {"margin": margin}) + "\n".join(rows),
            "\nWhat the verdicts said:\n\n" + "\n".join(said),
            _LATENCY.format(**measured, calm=ended - began) + "\n".join(waits),
            "",
        ]
    )


def _waits(one: Mapping[str, Any]) -> Iterator[str]:
    for name in ("p50_ms", "p95_ms", "p99_ms"):
        for stretch in ("before", "loading", "during"):
            value = one[stretch][name]
            yield "–" if value is None else f"{value:.1f}"


def _servers(measured: Mapping[str, Any]) -> str:
    rows = [
        f"| {_CHANGES[name]} | {each['times']} | {each['median']:.2f} | {each['worst']:.2f} |"
        for name, each in measured["seconds"].items()
    ]
    away = measured["away"]
    others = f" but {away['other_versions']}" if away["other_versions"] else ""
    said = _AWAY.format(**(away | away["figures"]), before=measured["before"], others=others)
    return _SERVERS.format(**measured) + "\n".join(rows) + "\n" + said


_WAYS = {"shadow": "shadow first", "callers": "no shadow"}
