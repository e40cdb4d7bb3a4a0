"""A server under mixed traffic, bad clients and model swaps, for as long as it is told.

python benchmarks/soak.py MODEL --minutes 20 --rate 30 --json soak.json

It passes when every well-formed request was answered or refused with 429 or 503 and a moment to
come back, no other 5xx was seen, and resident memory stayed flat: the median of the last quarter
within 5 % of that of the second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from serving_cost import running_server

from xlmr.evaluation.load.connections import Connections
from xlmr.evaluation.load.traffic import draw_traffic

NAME = "soak"
SWAP_S, SAMPLE_S = 20.0, 5.0
GROWTH = 0.05
# Bodies that cannot be answered, and what must be said of each.
MALFORMED = (
    ("/v1/classify", b"{", 400),
    ("/v1/classify", b"[]", 422),
    ("/v1/classify", b'{"input": 3}', 422),
    ("/v1/classify", b'{"input": [], "nonsense": 1}', 422),
    ("/v1/classify", b'{"input": "a", "model": "nobody"}', 404),
    ("/v1/classify", b'{"input": "' + b"a " * 3000 + b'", "long": "error"}', 422),
    ("/v1/embeddings", b'{"input": {"a": 1}}', 422),
    ("/v1/embeddings", b'{"input": "a", "dimensions": 0}', 422),
    ("/v1/nowhere", b"{}", 404),
    ("/v1/classify", b"x" * 6_000_000, 413),
)


@dataclass
class Seen:
    """What happened."""

    statuses: Counter[int] = field(default_factory=Counter)
    malformed: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    swaps: int = 0
    rude: int = 0
    resident_mib: list[float] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)


async def soak(address: str, pid: int, options: argparse.Namespace) -> Seen:
    """All of it at once, until the time is over."""
    seen = Seen()
    seconds = options.minutes * 60
    workers = [
        asyncio.create_task(one)
        for one in (
            good(address, options, seconds, seen),
            malformed(address, seconds, seen),
            rude(address, seconds, seen),
            swaps(address, seconds, seen),
            memory(pid, seconds, seen),
        )
    ]
    await asyncio.gather(*workers)
    return seen


async def good(address: str, options: argparse.Namespace, seconds: float, seen: Seen) -> None:
    """Well-formed requests at their own pace; each must have an end that was promised."""
    connections = Connections(address)
    asks = draw_traffic(rate=options.rate, seconds=seconds, seed=1, tasks=options.task)
    loop = asyncio.get_running_loop()
    started = loop.time()
    running: set[asyncio.Task[None]] = set()

    async def one(path: str, body: bytes) -> None:
        try:
            reply = await asyncio.wait_for(connections.post(path, body), 60)
        except (OSError, TimeoutError) as fault:
            seen.statuses[0] += 1
            seen.wrong.append(f"{path}: no answer ({type(fault).__name__})")
            return
        seen.statuses[reply.status] += 1
        if reply.status not in (200, 429, 503):
            seen.wrong.append(f"{path}: {reply.status} {reply.body[:200]!r}")
        elif reply.status == 200 and path == "/v1/classify":
            seen.versions[json.loads(reply.body)["model"]["version"]] += 1

    for ask in asks:
        await asyncio.sleep(max(0.0, started + ask.at_s - loop.time()))
        task = asyncio.create_task(one(ask.path, ask.body))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    connections.close()


async def malformed(address: str, seconds: float, seen: Seen) -> None:
    """Requests that must be refused as what they are."""
    connections = Connections(address)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        path, body, wanted = random.choice(MALFORMED)
        try:
            reply = await connections.post(path, body)
            if reply.status not in (wanted, 503):
                seen.wrong.append(f"{path} {body[:40]!r}: {reply.status}, not {wanted}")
            seen.malformed[str(reply.status)] += 1
        except OSError as fault:
            # A body that is refused before it is read may end the connection.
            seen.malformed[type(fault).__name__] += 1
            if wanted != 413:
                seen.wrong.append(f"{path} {body[:40]!r}: {type(fault).__name__}")
        await asyncio.sleep(random.expovariate(4))
    connections.close()


async def rude(address: str, seconds: float, seen: Seen) -> None:
    """Clients that hang up in every place, or send one byte a second."""
    parts = urlsplit(address)
    until = time.monotonic() + seconds
    body = json.dumps({"input": ["where is my parcel " * 40] * 8}).encode()
    head = (
        b"POST /v1/classify HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(body)
    )
    whole = head + body
    while time.monotonic() < until:
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        kind = random.randrange(5)
        with contextlib.suppress(OSError):
            if kind == 0:  # in the head
                writer.write(whole[: random.randrange(1, len(head))])
            elif kind == 1:  # in the body
                writer.write(whole[: len(head) + random.randrange(len(body))])
            elif kind == 2:  # while it is computed
                writer.write(whole)
                await asyncio.sleep(random.random() * 0.05)
            elif kind == 3:  # no HTTP at all
                writer.write(random.randbytes(200))
            else:  # slowly
                for i in range(5):
                    writer.write(whole[i : i + 1])
                    await asyncio.sleep(0.2)
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        seen.rude += 1
        await asyncio.sleep(random.expovariate(5))


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
        "requests": dict(seen.statuses),
        "malformed": dict(seen.malformed),
        "rude_clients": seen.rude,
        "swaps": seen.swaps,
        "versions_that_answered": len(seen.versions),
        "resident_mib": [round(value) for value in seen.resident_mib[::6]],
        "growth": round(growth, 4),
        "wrong": len(seen.wrong),
        "first_wrong": seen.wrong[:20],
    }


def main() -> None:
    """Starts a server of its own, and says how it went."""
    parser = argparse.ArgumentParser(description="a long mixed load with faults")
    parser.add_argument("model", type=Path, help="a directory that classifies")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=30.0)
    parser.add_argument("--task", nargs="+", default=["classify"])
    parser.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="options of serve")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="xlmr-soak-") as scratch:
        for copy in ("copy0", "copy1"):
            shutil.copytree(options.model, Path(scratch) / copy)
        place = f"{NAME}@1={scratch}/copy1"
        with running_server(place, "--models-dir", scratch, *options.serve) as (process, address):
            found = verdict(asyncio.run(soak(address, process.pid, options)))
    text = json.dumps(found, indent=2)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.exit(0 if found["passed"] else 1)


if __name__ == "__main__":
    main()
