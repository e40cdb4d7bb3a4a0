"""A server under mixed traffic, bad clients and model swaps, for as long as it is told.

python benchmarks/soak.py MODEL --minutes 20 --rate 30 --json soak.json --page docs/serving.md

It passes when every well-formed request, over HTTP and gRPC, was answered or refused as it is
promised, no other 5xx was seen, what people said of answers was kept, and resident memory stayed
flat: the median of the last quarter within 5 % of that of the second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from serving_cost import running_server
from soak_clients import Seen, calls, good, malformed, rude
from tables import write_tables

from xlmr.evaluation.load.connections import Connections

NAME = "soak"
SWAP_S, SAMPLE_S = 20.0, 5.0
GROWTH = 0.05


async def soak(address: str, grpc_address: str, pid: int, options: argparse.Namespace) -> Seen:
    """All of it at once, until the time is over."""
    seen = Seen()
    seconds = options.minutes * 60
    workers = [
        asyncio.create_task(one)
        for one in (
            good(address, options.rate * 2 / 3, seconds, NAME, seen),
            calls(grpc_address, options.rate / 3, seconds, NAME, seen),
            malformed(address, seconds, seen),
            rude(address, seconds, seen),
            swaps(address, seconds, seen),
            memory(pid, seconds, seen),
        )
    ]
    await asyncio.gather(*workers)
    return seen


async def swaps(address: str, seconds: float, seen: Seen) -> None:
    """A new version is loaded, becomes live, and the old one goes; again and again."""
    connections = Connections(address)
    until = time.monotonic() + seconds
    version = 1
    while time.monotonic() < until - SWAP_S:
        await asyncio.sleep(SWAP_S)
        version += 1
        body = {"name": NAME, "version": str(version), "directory": f"copy{version % 2}"}
        loaded = await connections.post("/v1/models", json.dumps(body).encode())
        if loaded.status not in (200, 201, 202):
            seen.wrong.append(f"load: {loaded.status} {loaded.body[:300]!r}")
            continue
        if not await until_ready(connections, f"{NAME}@{version}"):
            seen.wrong.append(f"version {version} never became ready")
            continue
        alias, named = f"/v1/models/{NAME}/aliases/live", {"version": str(version)}
        moved = await connections.request("PUT", alias, json.dumps(named).encode())
        gone = await connections.request("DELETE", f"/v1/models/{NAME}@{version - 1}")
        for name, reply in (("alias", moved), ("unload", gone)):
            if reply.status not in (200, 202, 204):
                seen.wrong.append(f"{name}: {reply.status} {reply.body[:300]!r}")
        seen.swaps += 1
    connections.close()


async def until_ready(connections: Connections, model: str) -> bool:
    """Waits until a version is ready."""
    for _ in range(240):
        reply = await connections.request("GET", f"/v1/models/{model}")
        if reply.status == 200 and json.loads(reply.body)["state"] == "ready":
            return True
        await asyncio.sleep(0.25)
    return False


async def memory(pid: int, seconds: float, seen: Seen) -> None:
    """Resident memory over time, of the server and its workers."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        seen.resident_mib.append(resident_mib(pid))
        await asyncio.sleep(SAMPLE_S)


def resident_mib(pid: int) -> float:
    """Of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    own = 0.0
    with contextlib.suppress(FileNotFoundError):
        lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
        own = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
    return own + sum(resident_mib(int(child)) for child in children)


def verdict(seen: Seen) -> dict[str, Any]:
    """What was seen, and whether it is what was promised."""
    quarter = max(1, len(seen.resident_mib) // 4)
    early = statistics.median(seen.resident_mib[quarter : 2 * quarter] or seen.resident_mib)
    late = statistics.median(seen.resident_mib[-quarter:])
    growth = late / early - 1
    return {
        "passed": not seen.wrong and growth <= GROWTH,
        "requests": dict(sorted(seen.statuses.items())),
        "grpc_calls": dict(seen.calls),
        "feedback": dict(seen.feedback),
        "malformed": dict(seen.malformed),
        "rude_clients": seen.rude,
        "swaps": seen.swaps,
        "versions_that_answered": len(seen.versions),
        "resident_mib": [round(value) for value in seen.resident_mib[::6]],
        "growth": round(growth, 4),
        "wrong": len(seen.wrong),
        "first_wrong": seen.wrong[:20],
    }


def page_rows(found: dict[str, Any], options: argparse.Namespace) -> Iterator[str]:
    """The verdict as rows of a table."""

    def total(counts: dict[str, int], *endings: str) -> int:
        return sum(n for name, n in counts.items() if name.endswith(endings))

    http, grpc = found["requests"], found["grpc_calls"]
    refused, memory = total(http, "429", "503"), found["resident_mib"]
    first, last = memory[0], memory[-1]
    yield f"| duration | {options.minutes:g} minutes at {options.rate:g} requests a second |"
    yield f"| HTTP, well-formed | {total(http, '200')} answered, {refused} refused |"
    yield (
        f"| gRPC | {grpc.get('OK', 0)} answered, {grpc.get('INVALID_ARGUMENT', 0)} malformed, "
        f"{grpc.get('CANCELLED', 0)} given up, "
        f"{total(grpc, 'RESOURCE_EXHAUSTED', 'UNAVAILABLE')} refused |"
    )
    yield f"| malformed requests over HTTP | {sum(found['malformed'].values())} |"
    yield f"| clients that hung up, stalled or spoke no HTTP | {found['rude_clients']} |"
    yield f"| feedback kept | {found['feedback'].get('200', 0)} |"
    yield f"| versions swapped | {found['swaps']} |"
    yield f"| resident memory | {first} MiB first, {last} MiB last, {found['growth']:+.1%} |"
    yield f"| answers otherwise than promised | {found['wrong']} |"


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main() -> None:
    """Starts a server of its own, and says how it went."""
    parser = argparse.ArgumentParser(description="a long mixed load with faults")
    parser.add_argument("model", type=Path, help="a directory that classifies")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=30.0, help="a third of it over gRPC")
    parser.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="options of serve")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="whose table is replaced, where it passed")
    options = parser.parse_args()
    os.environ.setdefault("XLMR_FEEDBACK_KEY", secrets.token_hex(32))
    with tempfile.TemporaryDirectory(prefix="xlmr-soak-") as scratch:
        for copy in ("copy0", "copy1"):
            shutil.copytree(options.model, Path(scratch) / copy)
        port = free_port()
        with running_server(
            f"{NAME}@1={scratch}/copy1",
            *("--models-dir", scratch, "--feedback", f"{scratch}/feedback.db"),
            *("--grpc-port", str(port), *options.serve),
        ) as (process, address):
            grpc_address = f"127.0.0.1:{port}"
            found = verdict(asyncio.run(soak(address, grpc_address, process.pid, options)))
    text = json.dumps(found, indent=2)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    page = options.page if found["passed"] else None
    write_tables({"soak": partial(page_rows, found, options)}, page)
    sys.exit(0 if found["passed"] else 1)


if __name__ == "__main__":
    main()
