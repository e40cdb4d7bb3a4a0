"""What a request costs beside tokenising and inference: processor time, not waiting.

The server's processor time for a request, less the processor time of the same texts through a
predictor in a process of its own, which tokenises, computes and reads the head, and nothing else.
One connection, one text after the other, so that no batch shares what is not shared in life.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from serving_cost import ask, running_server

from xlmr.evaluation.load.traffic import draw_traffic

REQUESTS = 1_500
ROUNDS = 5

# Processor seconds for each text, computed alone; the engine's threads count.
_ALONE = """
import json, sys, time
from pathlib import Path
import xlmr
model = xlmr.load(Path(sys.argv[1]))
texts = json.load(sys.stdin)
for text in texts[:200]:
    model.embed([text])
began = time.process_time()
for text in texts:
    model.embed([text])
print((time.process_time() - began) / len(texts))
"""


def measure_request_cost(model: Path) -> dict[str, Any]:
    """Microseconds of processor time a request: the server's, the predictor's, and the rest.

    Rounds alternate; the medians' difference is the overhead.
    """
    asks = draw_traffic(rate=REQUESTS, seconds=1.0, seed=1)
    texts = [json.loads(one.body)["input"] for one in asks]
    served, alone = [], []
    with running_server(model, "--cache-bytes", "0") as (process, address):
        ask(address, texts[:200])
        for _ in range(ROUNDS):
            before = _processor_seconds(process.pid)
            ask(address, texts)
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


def _processor_seconds(pid: int) -> float:
    """User and system time of a process and its threads; nanoseconds, by the scheduler."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text("ascii").split()[0])
    return total / 1e9
