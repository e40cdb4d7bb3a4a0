"""What a request costs beside tokenising and inference: processor time, not waiting.

The server's processor time for a request, less the processor time of the same texts through a
predictor in a process of its own, which tokenises, computes and reads the head, and nothing else.
Sixteen connections, each with one text at a time, so that the event loop is met as it is under
load; the predictor takes eight texts at once, which flatters it, not us. One thread, since threads
that wait for the next batch spin for a while; and a tiny model, whose inference does not drown the
rest.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving_cost import running_server

from xlmr.evaluation.load.connections import Connections
from xlmr.evaluation.load.traffic import Ask, draw_traffic

CONNECTIONS = 16
REQUESTS = 4_000
ROUNDS = 5

# Processor seconds for each text, computed alone; the engine's threads count.
_ALONE = """
import json, sys, time
from pathlib import Path
import xlmr
model = xlmr.load(Path(sys.argv[1]), threads=1)
texts = json.load(sys.stdin)
for first in range(0, 800, 8):
    model.embed(texts[first : first + 8])
began = time.process_time()
for first in range(0, len(texts), 8):
    model.embed(texts[first : first + 8])
print((time.process_time() - began) / len(texts))
"""


def measure_request_cost(model: Path) -> dict[str, Any]:
    """Microseconds of processor time a request: the server's, the predictor's, and the rest.

    Rounds alternate; the medians' difference is the overhead.
    """
    asks = draw_traffic(rate=REQUESTS, seconds=1.0, seed=1)
    texts = [json.loads(one.body)["input"] for one in asks]
    served, alone = [], []
    with running_server(model, "--cache-bytes", "0", "--threads", "1") as (process, address):
        asyncio.run(_send(address, asks[:400]))
        for _ in range(ROUNDS):
            before = _processor_seconds(process.pid)
            asyncio.run(_send(address, asks))
            served.append((_processor_seconds(process.pid) - before) / len(texts))
            done = subprocess.run(
                [sys.executable, "-c", _ALONE, str(model)],
                input=json.dumps(texts),
                capture_output=True,
                text=True,
                check=True,
            )
            alone.append(float(done.stdout))
    server, predictor = statistics.median(served), statistics.median(alone)
    return {
        "requests": len(texts),
        "rounds": ROUNDS,
        "server_us": server * 1e6,
        "predictor_us": predictor * 1e6,
        "overhead_us": (server - predictor) * 1e6,
    }


async def _send(address: str, asks: Sequence[Ask]) -> None:
    connections = Connections(address)
    waiting = iter(asks)

    async def one() -> None:
        for ask in waiting:
            reply = await connections.post(ask.path, ask.body)
            if reply.status != 200:
                raise RuntimeError(f"status {reply.status}: {reply.body!r}")

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    connections.close()


def _processor_seconds(pid: int) -> float:
    """User and system time of a process and its threads; nanoseconds, by the scheduler."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text("ascii").split()[0])
    return total / 1e9
